package httpapi

import (
	"context"
	"net/http"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

func (s *Server) notificationRoutes() {
	operator(s, route{
		method: http.MethodGet, path: "/api/notifications", id: "listNotifications", tag: tagNotifications, summary: "The caller's notifications",
		description: "Newest first.",
	}, s.listNotifications)
	operator(s, route{
		method: http.MethodPost, path: "/api/notifications/read", id: "readNotifications", tag: tagNotifications, summary: "Mark notifications as read",
		description: "Exactly one of ids, upToId and all. Ids that are not the caller's are passed over.",
	}, s.readNotifications)
}

type listNotificationsInput struct {
	PageQuery
	Unread bool `query:"unread" doc:"true: unread ones only."`
}

func (s *Server) listNotifications(ctx context.Context, who domain.Principal, in *listNotificationsInput) (*answer[Page[domain.Notification]], error) {
	filter := store.NotificationFilter{UnreadOnly: in.Unread, Limit: in.Limit + 1}
	if err := decodeCursor(in.Cursor, &filter.Before); err != nil {
		return nil, err
	}
	found, err := s.options.Inbox.Notifications(ctx, who, filter)
	return answerOf(pageOf(found, in.Limit, func(n domain.Notification) int64 { return n.ID }), err)
}

type readNotificationsInput struct {
	Body struct {
		IDs    []int64 `json:"ids,omitempty" maxItems:"500" example:"[5]"`
		UpToID int64   `json:"upToId,omitempty" minimum:"1" doc:"This one and all before it." example:"5"`
		All    bool    `json:"all,omitempty"`
	} `nameHint:"NotificationsRead"`
}

// UnreadCount is how many notifications a user has not read.
type UnreadCount struct {
	Unread int `json:"unread" doc:"1000 means that many or more." example:"3"`
}

func (s *Server) readNotifications(ctx context.Context, who domain.Principal, in *readNotificationsInput) (*answer[UnreadCount], error) {
	given := 0
	for _, is := range []bool{len(in.Body.IDs) > 0, in.Body.UpToID != 0, in.Body.All} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, domain.Invalid("ids", "Give exactly one of ids, upToId and all.")
	}
	unread, err := s.options.Inbox.ReadNotifications(ctx, who, store.NotificationsRead{IDs: in.Body.IDs, UpToID: in.Body.UpToID})
	return answerOf(UnreadCount{Unread: unread}, err)
}
