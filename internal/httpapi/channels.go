package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"rsc.io/qr"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
)

func (s *Server) channelRoutes() {
	conflict := []int{http.StatusConflict}
	operator(s, route{
		method: http.MethodGet, path: "/api/channels", id: "listChannels", tag: tagChannels, summary: "List channels", description: "Oldest first.",
	}, s.listChannels)
	admin(s, route{
		method: http.MethodPost, path: "/api/channels", id: "createChannel", tag: tagChannels, summary: "Add a channel",
		description: "config of `waba`: phoneNumberId, businessAccountId (optional), accessToken, appSecret, verifyToken; of `telegram`: botToken; of `whatsapp`: " +
			"nothing, or phone, the only number that may be linked. A channel of kind `whatsapp` waits for connect, which starts the linking. Secrets are sealed and never " +
			"read back. The channel connects at once; a provider that cannot be reached is a state of the channel, not an error of this call. " +
			"A kind that this installation cannot run, or a number that is a channel already, is a 409.",
		status: http.StatusCreated, errors: conflict,
	}, s.createChannel)
	operator(s, route{method: http.MethodGet, path: "/api/channels/{id}", id: "getChannel", tag: tagChannels, summary: "One channel"}, s.getChannel)
	admin(s, route{
		method: http.MethodPatch, path: "/api/channels/{id}", id: "updateChannel", tag: tagChannels, summary: "Change a channel",
		description: "config holds only what changes; null takes a setting away. Settings of another number or bot are refused: 409.", errors: conflict,
	}, s.updateChannel)
	admin(s, route{
		method: http.MethodDelete, path: "/api/channels/{id}", id: "deleteChannel", tag: tagChannels, summary: "Delete a channel",
		description: "Its chats stay readable. What it has not sent yet fails, and its credentials are forgotten. Its provider is not told: log a channel out " +
			"before that is linked to a phone, or remove the link there (Linked devices).",
	}, s.deleteChannel)
	admin(s, route{
		method: http.MethodPost, path: "/api/channels/{id}/connect", id: "connectChannel", tag: tagChannels, summary: "Connect a channel",
		description: "Changes nothing on one that is connected or connecting.", errors: conflict,
	}, s.connectChannel)
	admin(s, route{
		method: http.MethodPost, path: "/api/channels/{id}/disconnect", id: "disconnectChannel", tag: tagChannels, summary: "Disconnect a channel",
		description: "Until somebody connects it again.",
	}, s.disconnectChannel)
	const linking = " For channels that are linked by QR or pairing code; 409 with code `unsupported` for those that are opened with credentials."
	admin(s, route{
		method: http.MethodPost, path: "/api/channels/{id}/logout", id: "logoutChannel", tag: tagChannels, summary: "Unlink a channel",
		description: "The phone forgets this installation, and the channel is off until it is connected and linked anew. Its chats stay." + linking, errors: conflict,
	}, s.logoutChannel)
	admin(s, route{
		method: http.MethodPost, path: "/api/channels/{id}/pair-code", id: "pairChannel", tag: tagChannels, summary: "Link a channel by code",
		description: "Connect the channel first. The code is typed into the phone that has this number: Linked devices, Link a device, Link with phone number instead." + linking,
		errors:      conflict,
	}, s.pairChannel)
	const asker = "Connect the channel first; its codes are shown to the admin who did that last, and change about every 20 seconds. Waits up to 10 seconds for the first."
	admin(s, route{
		method: http.MethodGet, path: "/api/channels/{id}/qr", id: "getChannelQR", tag: tagChannels, summary: "Link a channel by QR code",
		description: asker + linking, errors: conflict,
	}, s.getChannelQR)
	admin(s, route{
		method: http.MethodGet, path: "/api/channels/{id}/qr.png", id: "getChannelQRImage", tag: tagChannels, summary: "Link a channel by QR code, as a picture",
		description: asker + linking, errors: conflict,
	}, s.getChannelQRImage)
}

func (s *Server) listChannels(ctx context.Context, who domain.Principal, in *PageQuery) (*answer[Page[domain.Channel]], error) {
	var after int64
	if err := decodeCursor(in.Cursor, &after); err != nil {
		return nil, err
	}
	channels, err := s.options.Inbox.Channels(ctx, who, after, in.Limit+1)
	return answerOf(pageOf(channels, in.Limit, func(c domain.Channel) int64 { return c.ID }), err)
}

type createChannelInput struct {
	Body struct {
		Kind   domain.ChannelKind `json:"kind" example:"waba"`
		Name   string             `json:"name" minLength:"1" maxLength:"200" example:"Sales"`
		Config map[string]any     `json:"config" maxProperties:"50" doc:"What the kind needs."`
	} `nameHint:"NewChannel"`
}

func (s *Server) createChannel(ctx context.Context, who domain.Principal, in *createChannelInput) (*answer[domain.Channel], error) {
	return answerOf(s.options.Inbox.CreateChannel(ctx, who, in.Body.Kind, in.Body.Name, in.Body.Config))
}

func (s *Server) getChannel(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Channel], error) {
	return answerOf(s.options.Inbox.Channel(ctx, who, in.ID))
}

type updateChannelInput struct {
	IDPath
	Body struct {
		Name   *string        `json:"name,omitempty" minLength:"1" maxLength:"200" example:"Support"`
		Config map[string]any `json:"config,omitempty" maxProperties:"50" doc:"Only what changes."`
	} `nameHint:"ChannelChange"`
}

func (s *Server) updateChannel(ctx context.Context, who domain.Principal, in *updateChannelInput) (*answer[domain.Channel], error) {
	return answerOf(s.options.Inbox.UpdateChannel(ctx, who, in.ID, inbox.ChannelChange{Name: in.Body.Name, Config: in.Body.Config}))
}

func (s *Server) deleteChannel(ctx context.Context, who domain.Principal, in *IDPath) (*noContent, error) {
	return nil, s.options.Inbox.DeleteChannel(ctx, who, in.ID)
}

func (s *Server) connectChannel(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Channel], error) {
	return answerOf(s.options.Inbox.ConnectChannel(ctx, who, in.ID))
}

func (s *Server) disconnectChannel(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Channel], error) {
	return answerOf(s.options.Inbox.DisconnectChannel(ctx, who, in.ID))
}

func (s *Server) logoutChannel(ctx context.Context, who domain.Principal, in *IDPath) (*answer[domain.Channel], error) {
	return answerOf(s.options.Inbox.LogoutChannel(ctx, who, in.ID))
}

type pairChannelInput struct {
	IDPath
	Body struct {
		Phone string `json:"phone" minLength:"1" maxLength:"40" example:"+49 151 23456789" doc:"The number of the phone, with its country code."`
	} `nameHint:"PairCodeRequest"`
}

func (s *Server) pairChannel(ctx context.Context, who domain.Principal, in *pairChannelInput) (*answer[channel.PairCode], error) {
	return answerOf(s.options.Inbox.PairCode(ctx, who, in.ID, in.Body.Phone))
}

// qrAnswer is a code that nobody may keep.
type qrAnswer struct {
	CacheControl string `header:"Cache-Control"`
	Body         inbox.LinkCode
}

func (s *Server) getChannelQR(ctx context.Context, who domain.Principal, in *IDPath) (*qrAnswer, error) {
	code, err := s.options.Inbox.LinkCode(ctx, who, in.ID)
	if err != nil {
		return nil, err
	}
	return &qrAnswer{CacheControl: "no-store", Body: code}, nil
}

type qrImage struct {
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control"`
	Body         []byte `contentType:"image/png"`
}

func (s *Server) getChannelQRImage(ctx context.Context, who domain.Principal, in *IDPath) (*qrImage, error) {
	code, err := s.options.Inbox.LinkCode(ctx, who, in.ID)
	if err != nil {
		return nil, err
	}
	picture, err := qr.Encode(code.QR, qr.L)
	if err != nil {
		return nil, fmt.Errorf("draw the code of channel %d: %w", in.ID, err)
	}
	return &qrImage{ContentType: "image/png", CacheControl: "no-store", Body: picture.PNG()}, nil
}
