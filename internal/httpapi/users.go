package httpapi

import (
	"context"
	"net/http"

	"switchboard/internal/account"
	"switchboard/internal/domain"
)

func (s *Server) userRoutes() {
	operator(s, route{
		method: http.MethodGet, path: "/api/users", id: "listUsers", tag: tagUsers, summary: "List the users",
		description: "Oldest first, inactive ones included. For every operator: chats are assigned to colleagues.",
	}, s.listUsers)
	admin(s, route{
		method: http.MethodPost, path: "/api/users", id: "createUser", tag: tagUsers, summary: "Add a user",
		status: http.StatusCreated, errors: []int{http.StatusConflict},
	}, s.createUser)
	operator(s, route{method: http.MethodGet, path: "/api/users/{id}", id: "getUser", tag: tagUsers, summary: "One user"}, s.getUser)
	admin(s, route{
		method: http.MethodPatch, path: "/api/users/{id}", id: "updateUser", tag: tagUsers, summary: "Change a user",
		description: "A change of role, activity or password ends the user's sessions and closes the user's sockets. The last " +
			"active admin stays one: 409.",
		errors: []int{http.StatusConflict},
	}, s.updateUser)
	admin(s, route{
		method: http.MethodDelete, path: "/api/users/{id}", id: "deactivateUser", tag: tagUsers, summary: "Deactivate a user",
		description: "Takes the user's access away at once. What the user wrote stays, and so does the user, inactive.",
		errors:      []int{http.StatusConflict},
	}, s.deactivateUser)
}

func (s *Server) listUsers(ctx context.Context, who domain.Principal, in *PageQuery) (*answer[Page[domain.User]], error) {
	var after int64
	if err := decodeCursor(in.Cursor, &after); err != nil {
		return nil, err
	}
	users, err := s.options.Accounts.Users(ctx, who, after, in.Limit+1)
	return answerOf(pageOf(users, in.Limit, func(u domain.User) int64 { return u.ID }), err)
}

type createUserInput struct {
	Body struct {
		Name     string      `json:"name" minLength:"1" maxLength:"200" example:"Charles Babbage"`
		Email    string      `json:"email" maxLength:"254" doc:"Unique on this server." example:"charles@example.com"`
		Password string      `json:"password" doc:"8 to 256 bytes; the user can change it." example:"correct horse battery staple"`
		Role     domain.Role `json:"role" example:"operator"`
	} `nameHint:"NewUser"`
}

func (s *Server) createUser(ctx context.Context, who domain.Principal, in *createUserInput) (*answer[domain.User], error) {
	return answerOf(s.options.Accounts.CreateUser(ctx, who, account.NewUser{
		Name: in.Body.Name, Email: in.Body.Email, Password: in.Body.Password, Role: in.Body.Role,
	}))
}

func (s *Server) getUser(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.User], error) {
	return answerOf(s.options.Accounts.User(ctx, who, in.ID))
}

type updateUserInput struct {
	IDPath
	Body struct {
		Name     *string      `json:"name,omitempty" minLength:"1" maxLength:"200" example:"Charles Babbage"`
		Role     *domain.Role `json:"role,omitempty" example:"admin"`
		Active   *bool        `json:"active,omitempty" doc:"false takes the user's access away." example:"true"`
		Password *string      `json:"password,omitempty" doc:"8 to 256 bytes." example:"correct horse battery staple"`
	} `nameHint:"UserChange"`
}

func (s *Server) updateUser(ctx context.Context, who domain.Principal, in *updateUserInput) (*answer[domain.User], error) {
	return answerOf(s.options.Accounts.UpdateUser(ctx, who, in.ID, account.UserChange{
		Name: in.Body.Name, Role: in.Body.Role, Active: in.Body.Active, Password: in.Body.Password,
	}))
}

func (s *Server) deactivateUser(ctx context.Context, who domain.Principal, in *IDPath) (*noContent, error) {
	return nil, s.options.Accounts.DeactivateUser(ctx, who, in.ID)
}
