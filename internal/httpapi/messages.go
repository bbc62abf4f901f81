package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

func (s *Server) messageRoutes() {
	operator(s, route{
		method: http.MethodGet, path: "/api/messages", id: "listMessages", tag: tagMessages, summary: "Read a chat",
		description: "The newest page, or the one next to the message that before or after names; oldest first within a page. nextCursor is " +
			"the id to pass as before (or, where after was given, as after) for the next page.",
		errors: []int{http.StatusNotFound},
	}, s.listMessages)
	operator(s, route{
		method: http.MethodPost, path: "/api/messages/send", id: "sendMessage", tag: tagMessages, summary: "Send a message",
		description: "201 with the message, queued. With the clientMessageId of an earlier call: 200 with that call's message, and nothing is " +
			"sent again.",
		status: http.StatusCreated, errors: []int{http.StatusNotFound, http.StatusConflict},
	}, s.sendMessage)
	operator(s, route{method: http.MethodGet, path: "/api/messages/{id}", id: "getMessage", tag: tagMessages, summary: "One message"}, s.getMessage)
	operator(s, route{
		method: http.MethodPost, path: "/api/messages/{id}/retry", id: "retryMessage", tag: tagMessages, summary: "Send a message again",
		description: "One that failed, or whose fate is not known: the latter may have arrived.", errors: []int{http.StatusConflict},
	}, s.retryMessage)
	operator(s, route{
		method: http.MethodPost, path: "/api/messages/{id}/reactions", id: "reactToMessage", tag: tagMessages, summary: "React to a message",
		description: "Replaces the organization's reaction. An empty emoji takes it away.", errors: []int{http.StatusConflict},
	}, s.reactToMessage)
	operator(s, route{
		method: http.MethodPatch, path: "/api/messages/{id}", id: "editMessage", tag: tagMessages, summary: "Edit a sent message",
		description: "Where the channel can: else 409 with code `unsupported`.", errors: []int{http.StatusConflict},
	}, s.editMessage)
	operator(s, route{
		method: http.MethodDelete, path: "/api/messages/{id}", id: "revokeMessage", tag: tagMessages, summary: "Take a sent message back",
		description: "Where the channel can: else 409 with code `unsupported`. The message stays, without its content.", errors: []int{http.StatusConflict},
	}, s.revokeMessage)
}

// messageOf answers a message whose file has a fresh address.
func (s *Server) messageOf(who domain.Principal, m domain.Message, err error) (*answer[domain.Message], error) {
	s.sign(who.OrganizationID, m.Media)
	return answerOf(m, err)
}

type listMessagesInput struct {
	ChatID int64 `query:"chatId" required:"true" minimum:"1"`
	Before int64 `query:"before" minimum:"1" doc:"A message's id: those before it."`
	After  int64 `query:"after" minimum:"1" doc:"A message's id: those after it."`
	Limit  int   `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"Most items of the page."`
}

func (s *Server) listMessages(ctx context.Context, who domain.Principal, in *listMessagesInput) (*answer[Page[domain.Message]], error) {
	messages, err := s.options.Inbox.Messages(ctx, who, store.MessageFilter{
		ChatID: in.ChatID, Before: in.Before, After: in.After, Limit: in.Limit + 1,
	})
	if err != nil {
		return nil, err
	}
	page := Page[domain.Message]{Items: messages}
	if len(messages) > in.Limit {
		var edge int64
		if in.After != 0 {
			page.Items = messages[:in.Limit]
			edge = page.Items[in.Limit-1].ID
		} else {
			page.Items = messages[1:]
			edge = page.Items[0].ID
		}
		next := strconv.FormatInt(edge, 10)
		page.NextCursor = &next
	}
	for _, m := range page.Items {
		s.sign(who.OrganizationID, m.Media)
	}
	return answerOf(page, nil)
}

type sendMessageInput struct {
	Body struct {
		ChatID          int64                  `json:"chatId" minimum:"1" example:"42"`
		Content         string                 `json:"content,omitempty" maxLength:"65536" doc:"The text, or a file's caption." example:"It has left our house today."`
		Type            domain.MessageType     `json:"type,omitempty" doc:"Absent: what the other fields suggest." example:"text"`
		MediaID         *int64                 `json:"mediaId,omitempty" minimum:"1" doc:"An uploaded file." example:"17"`
		Location        *domain.Location       `json:"location,omitempty"`
		ReplyToID       *int64                 `json:"replyToId,omitempty" minimum:"1" doc:"A message of the chat to quote." example:"980"`
		Template        *domain.Template       `json:"template,omitempty" doc:"Where the customer service window is closed."`
		Priority        domain.MessagePriority `json:"priority,omitempty" doc:"Absent: normal. bulk goes when nothing normal waits; within a chat the order is kept." example:"normal"`
		ClientMessageID string                 `json:"clientMessageId,omitempty" maxLength:"128" doc:"Made by the client, so that a call may be repeated." example:"0b1f9c2e-6d0e-4b7f-9a55-0c6d0f0b7f11"`
	} `nameHint:"NewMessage"`
}

func (s *Server) sendMessage(ctx context.Context, who domain.Principal, in *sendMessageInput) (*madeOrFound[domain.Message], error) {
	b := in.Body
	m, created, err := s.options.Inbox.Send(ctx, who, inbox.SendInput{
		ChatID: b.ChatID, Type: b.Type, Content: b.Content, MediaID: b.MediaID, Location: b.Location, ReplyToID: b.ReplyToID,
		Template: b.Template, Priority: b.Priority, ClientMessageID: b.ClientMessageID,
	})
	s.sign(who.OrganizationID, m.Media)
	return madeOrFoundOf(m, created, err)
}

func (s *Server) getMessage(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Message], error) {
	m, err := s.options.Inbox.Message(ctx, who, in.ID)
	return s.messageOf(who, m, err)
}

func (s *Server) retryMessage(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Message], error) {
	m, err := s.options.Inbox.Retry(ctx, who, in.ID)
	return s.messageOf(who, m, err)
}

type reactInput struct {
	IDPath
	Body struct {
		Emoji string `json:"emoji" maxLength:"64" doc:"One emoji; empty takes the reaction away." example:"👍"`
	} `nameHint:"NewReaction"`
}

func (s *Server) reactToMessage(ctx context.Context, who domain.Principal, in *reactInput) (*answer[domain.Message], error) {
	m, err := s.options.Inbox.React(ctx, who, in.ID, in.Body.Emoji)
	return s.messageOf(who, m, err)
}

type editMessageInput struct {
	IDPath
	Body struct {
		Content string `json:"content" minLength:"1" maxLength:"65536" doc:"The new text." example:"It leaves our house tomorrow."`
	} `nameHint:"MessageChange"`
}

func (s *Server) editMessage(ctx context.Context, who domain.Principal, in *editMessageInput) (*answer[domain.Message], error) {
	m, err := s.options.Inbox.Edit(ctx, who, in.ID, in.Body.Content)
	return s.messageOf(who, m, err)
}

func (s *Server) revokeMessage(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Message], error) {
	m, err := s.options.Inbox.Revoke(ctx, who, in.ID)
	return s.messageOf(who, m, err)
}
