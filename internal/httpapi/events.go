package httpapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"switchboard/internal/domain"
)

func (s *Server) eventRoutes() {
	operator(s, route{
		method: http.MethodGet, path: "/api/events", id: "listEvents", tag: tagEvents, summary: "Read the event log",
		description: "What the organization's sockets were told, from the first event behind after on. seq counts 1, 2, 3, … without gaps. " +
			"When resync is true the log does not reach back that far, or is another one than after was taken from: fetch everything " +
			"anew and go on from head. A change of epoch means the same.",
	}, s.listEvents)
}

type listEventsInput struct {
	After int64 `query:"after" minimum:"0" doc:"The seq of the last event that the caller has; 0: none."`
	Limit int   `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Most events to answer."`
}

// EventLog is a stretch of the log.
type EventLog struct {
	Events []LoggedEvent `json:"events" doc:"Oldest first."`
	Head   int64         `json:"head" doc:"The newest seq of the log." example:"1204"`
	Epoch  string        `json:"epoch" doc:"Which log this is." example:"9f2c41d06b7a3e58"`
	Resync bool          `json:"resync"`
}

// LoggedEvent is a line of the log.
type LoggedEvent struct {
	Seq   int64       `json:"seq" example:"1204"`
	Event string      `json:"event" example:"message:new"`
	Data  rawJSON     `json:"data" doc:"As sockets get it."`
	At    domain.Time `json:"at"`
}

// rawJSON is JSON that is sent as it is stored.
type rawJSON struct{ json.RawMessage }

// Schema says that it is an object.
func (rawJSON) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

func (s *Server) listEvents(ctx context.Context, who domain.Principal, in *listEventsInput) (*answer[EventLog], error) {
	page, err := s.options.Inbox.Events(ctx, who, in.After, in.Limit)
	log := EventLog{Events: make([]LoggedEvent, len(page.Events)), Head: page.Head, Epoch: page.Epoch, Resync: page.Resync}
	for i, e := range page.Events {
		log.Events[i] = LoggedEvent{Seq: e.Seq, Event: e.Name, Data: rawJSON{e.Data}, At: e.At}
	}
	return answerOf(log, err)
}
