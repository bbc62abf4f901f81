// Package httpapi is the REST API: Gin for routing, huma for typed handlers, from which validation and OpenAPI 3.1 come.
//
// # How a route is written
//
// A group of routes is one file. It declares what comes in and what goes out, registers each route with its access
// (public, operator or admin), and leaves everything else to the base:
//
//	func (s *Server) noteRoutes() {
//		operator(s, route{
//			method: http.MethodPost, path: "/api/chats/{id}/notes", id: "createChatNote", tag: "Chats",
//			summary: "Write a note", status: http.StatusCreated,
//		}, s.createNote)
//	}
//
//	type createNoteInput struct {
//		IDPath                      // {id}, 1 or more
//		Body struct {
//			Content string `json:"content" minLength:"1" maxLength:"4000" doc:"What colleagues shall know." example:"Calls back on Monday."`
//		}
//	}
//
//	func (s *Server) createNote(ctx context.Context, who domain.Principal, in *createNoteInput) (*answer[domain.Note], error) {
//		note, err := s.inbox.CreateNote(ctx, who, in.ID, in.Body.Content)
//		return answerOf(note, err)
//	}
//
// and adds noteRoutes to routes in server.go. What holds for every route:
//
//   - A body's fields are required unless tagged `json:"…,omitempty"`; use pointers to tell absent from zero, and
//     Nullable where null has a meaning of its own. Unknown fields and query parameters are refused with 422.
//   - Lists take PageQuery (or its fields) and answer a Page, made with pageOf; cursors come from encodeCursor.
//   - Handlers return errors as they got them. errors.go alone maps a domain.Code to a status; what is not a
//     *domain.Error is logged with the request's id and answered with 500 or 503, which tell nothing.
//   - An id of another organization must answer domain.NotFound, like a missing one. The store's queries see to that,
//     since each of them names the organization: always pass who.OrganizationID.
//   - The context ends with the client or after the route's timeout. clientIP(ctx) and requestID(ctx) tell of the request.
//   - Outputs are the domain's own types, so that REST and sockets show the same JSON.
//   - Tests are scenarios (scenarios_test.go) on both databases. TestEveryRouteIsGuarded walks the OpenAPI document, so a
//     route that is public must be named there.
//   - What is not JSON (webhooks with their raw bytes) is a plain Gin handler, registered in mount.
package httpapi
