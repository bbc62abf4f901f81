package httpapi

import (
	"context"
	"net/http"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

func (s *Server) chatRoutes() {
	operator(s, route{
		method: http.MethodGet, path: "/api/chats", id: "listChats", tag: tagChats, summary: "List chats",
		description: "Newest activity first. Filters add up.",
	}, s.listChats)
	operator(s, route{
		method: http.MethodPost, path: "/api/chats", id: "startChat", tag: tagChats, summary: "Start a chat",
		description: "With a customer who has not written yet: 201. A chat that exists already is answered with 200. Channels on which " +
			"customers must write first answer 409 with code `unsupported`.",
		status: http.StatusCreated, errors: []int{http.StatusNotFound, http.StatusConflict},
	}, s.startChat)
	operator(s, route{method: http.MethodGet, path: "/api/chats/{id}", id: "getChat", tag: tagChats, summary: "One chat"}, s.getChat)
	operator(s, route{
		method: http.MethodPatch, path: "/api/chats/{id}", id: "updateChat", tag: tagChats, summary: "Assign, resolve or tag a chat",
		description: "The new assignee is notified, unless it is the caller.",
	}, s.updateChat)
	operator(s, route{
		method: http.MethodDelete, path: "/api/chats/{id}", id: "deleteChat", tag: tagChats, summary: "Delete a chat",
		description: "With its messages, files, tickets and notes, for good. What the customer has on their phone stays.",
	}, s.deleteChat)
	operator(s, route{
		method: http.MethodPost, path: "/api/chats/{id}/read", id: "readChat", tag: tagChats, summary: "Mark a chat as read",
		description: "Tells the customer's app too, where the channel can.",
	}, s.readChat)
	operator(s, route{
		method: http.MethodGet, path: "/api/chats/{id}/notes", id: "listChatNotes", tag: tagChats, summary: "List the notes on a chat",
		description: "Newest first. Customers never see notes.",
	}, s.listChatNotes)
	operator(s, route{
		method: http.MethodPost, path: "/api/chats/{id}/notes", id: "createChatNote", tag: tagChats, summary: "Write a note on a chat",
		status: http.StatusCreated,
	}, s.createChatNote)
}

type listChatsInput struct {
	PageQuery
	Status     domain.ChatStatus `query:"status" enum:"open,pending,resolved"`
	AssigneeID string            `query:"assigneeId" maxLength:"20" doc:"A user's id, me, or none for chats of nobody." example:"me"`
	ChannelID  int64             `query:"channelId" minimum:"1"`
	Unread     string            `query:"unread" enum:"true,false"`
	Tag        string            `query:"tag" maxLength:"50"`
	Query      string            `query:"q" maxLength:"200" doc:"Beginnings of words of the contact's name or user name, or the beginning or end of the phone number." example:"ada love"`
}

func (s *Server) listChats(ctx context.Context, who domain.Principal, in *listChatsInput) (*answer[Page[domain.Chat]], error) {
	filter := store.ChatFilter{Status: in.Status, ChannelID: in.ChannelID, Tag: in.Tag, Query: in.Query, Limit: in.Limit + 1}
	var err error
	if filter.AssigneeID, err = assigneeFilter(in.AssigneeID, who); err != nil {
		return nil, err
	}
	if in.Unread != "" {
		unread := in.Unread == "true"
		filter.Unread = &unread
	}
	if in.Cursor != "" {
		filter.After = &store.ChatPosition{}
		if err := decodeCursor(in.Cursor, filter.After); err != nil {
			return nil, err
		}
	}
	listed, err := s.options.Inbox.Chats(ctx, who, filter)
	if err != nil {
		return nil, err
	}
	page := pageOf(listed, in.Limit, func(l store.ListedChat) store.ChatPosition { return l.Position })
	chats := Page[domain.Chat]{Items: make([]domain.Chat, len(page.Items)), NextCursor: page.NextCursor}
	for i, l := range page.Items {
		chats.Items[i] = l.Chat
		s.signChat(who.OrganizationID, &chats.Items[i])
	}
	return answerOf(chats, nil)
}

type startChatInput struct {
	Body struct {
		ChannelID int64  `json:"channelId" minimum:"1" example:"3"`
		Phone     string `json:"phone,omitempty" maxLength:"50" doc:"With the country code; spaces and dashes do not matter." example:"+49 151 23456789"`
		Username  string `json:"username,omitempty" maxLength:"64" doc:"Instead of phone, where the network has user names." example:"ada"`
	} `nameHint:"NewChat"`
}

// madeOrFound is an answer with 201 for what was made and 200 for what was there.
type madeOrFound[T any] struct {
	Status int
	Body   T
}

func madeOrFoundOf[T any](body T, made bool, err error) (*madeOrFound[T], error) {
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	return &madeOrFound[T]{Status: status, Body: body}, nil
}

func (s *Server) startChat(ctx context.Context, who domain.Principal, in *startChatInput) (*madeOrFound[domain.Chat], error) {
	chat, made, err := s.options.Inbox.StartChat(ctx, who, inbox.NewChat{
		ChannelID: in.Body.ChannelID, Phone: in.Body.Phone, Username: in.Body.Username,
	})
	s.signChat(who.OrganizationID, &chat)
	return madeOrFoundOf(chat, made, err)
}

// chatOf answers a chat whose picture has a fresh address.
func (s *Server) chatOf(who domain.Principal, chat domain.Chat, err error) (*answer[domain.Chat], error) {
	s.signChat(who.OrganizationID, &chat)
	return answerOf(chat, err)
}

func (s *Server) getChat(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Chat], error) {
	chat, err := s.options.Inbox.Chat(ctx, who, in.ID)
	return s.chatOf(who, chat, err)
}

type updateChatInput struct {
	IDPath
	Body struct {
		Status     *domain.ChatStatus `json:"status,omitempty" example:"resolved"`
		AssigneeID Nullable[int64]    `json:"assigneeId,omitzero" minimum:"1" doc:"An active user; null: nobody." example:"7"`
		Tags       *[]string          `json:"tags,omitempty" maxItems:"100" doc:"All of them, at most 20 of up to 50 characters." example:"[\"vip\"]"`
	} `nameHint:"ChatChange"`
}

func (s *Server) updateChat(ctx context.Context, who domain.Principal, in *updateChatInput) (*answer[domain.Chat], error) {
	assignee, err := assignment(in.Body.AssigneeID)
	if err != nil {
		return nil, err
	}
	chat, err := s.options.Inbox.UpdateChat(ctx, who, in.ID, inbox.ChatChange{Status: in.Body.Status, Assignee: assignee, Tags: in.Body.Tags})
	return s.chatOf(who, chat, err)
}

func assignment(n Nullable[int64]) (inbox.Assignment, error) {
	if n.Value != nil && *n.Value < 1 {
		return inbox.Assignment{}, domain.Invalid("assigneeId", "It must be a user's id, 1 or more, or null for nobody.")
	}
	return inbox.Assignment{Set: n.Sent, UserID: n.Value}, nil
}

func (s *Server) deleteChat(ctx context.Context, who domain.Principal, in *IDPath) (*noContent, error) {
	return nil, s.options.Inbox.DeleteChat(ctx, who, in.ID)
}

type readChatInput struct {
	IDPath
	Body *struct {
		UpToMessageID *int64 `json:"upToMessageId,omitempty" minimum:"1" doc:"The newest message that was read; absent: all." example:"981"`
	} `nameHint:"ChatRead" required:"false"`
}

func (s *Server) readChat(ctx context.Context, who domain.Principal, in *readChatInput) (*answer[domain.Chat], error) {
	var upTo *int64
	if in.Body != nil {
		upTo = in.Body.UpToMessageID
	}
	chat, err := s.options.Inbox.MarkRead(ctx, who, in.ID, upTo)
	return s.chatOf(who, chat, err)
}

type listNotesInput struct {
	IDPath
	PageQuery
}

type createNoteInput struct {
	IDPath
	Body struct {
		Content string `json:"content" minLength:"1" maxLength:"65536" doc:"What colleagues shall know." example:"Calls back on Monday."`
	} `nameHint:"NewNote"`
}

func (s *Server) listChatNotes(ctx context.Context, who domain.Principal, in *listNotesInput) (*answer[Page[domain.Note]], error) {
	return s.listNotes(ctx, who, store.NoteSubject{ChatID: in.ID}, in.PageQuery)
}

func (s *Server) listNotes(ctx context.Context, who domain.Principal, subject store.NoteSubject, q PageQuery) (*answer[Page[domain.Note]], error) {
	var before int64
	if err := decodeCursor(q.Cursor, &before); err != nil {
		return nil, err
	}
	notes, err := s.options.Inbox.Notes(ctx, who, subject, before, q.Limit+1)
	return answerOf(pageOf(notes, q.Limit, func(n domain.Note) int64 { return n.ID }), err)
}

func (s *Server) createChatNote(ctx context.Context, who domain.Principal, in *createNoteInput) (*answer[domain.Note], error) {
	return answerOf(s.options.Inbox.AddNote(ctx, who, store.NoteSubject{ChatID: in.ID}, in.Body.Content))
}
