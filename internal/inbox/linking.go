package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// How channels are linked to phones. The admin who asks for the link is noted
// with the channel; its session shows its QR codes by way of the database, where
// any API node finds them, and to that admin's sockets. Whoever sees a code can
// take the number over, so nobody else gets it and it is sealed at rest.

// LinkCode is the QR code of a channel that waits to be scanned.
type LinkCode struct {
	ChannelID int64 `json:"channelId"`
	// QR is the text of the code.
	QR        string      `json:"qr"`
	ExpiresAt domain.Time `json:"expiresAt"`
}

const (
	// linkPatience is how long a request for a code waits for the session to
	// show one.
	linkPatience = 10 * time.Second
	// askPatience is how long a question waits for the session's answer.
	askPatience = 20 * time.Second
	// askRest is the time from a question to the first look for its answer; from
	// look to look it grows, up to maxAskRest.
	askRest, maxAskRest = 100 * time.Millisecond, time.Second
	// maxAsked is how many questions to the session of one channel may be open.
	// They are answered about one a second.
	maxAsked = 8
)

// LinkCode returns the QR code of a channel that is being linked, and waits a
// while for the first. Only the admin who asked for the link sees it.
func (s *Service) LinkCode(ctx context.Context, p domain.Principal, id int64) (LinkCode, error) {
	var looks rests
	for deadline := time.Now().Add(linkPatience); ; {
		code, err := s.linkCode(ctx, p, id)
		if !errors.Is(err, errNoCodeYet) {
			return code, err
		}
		if !looks.rest(ctx) || time.Now().After(deadline) {
			return LinkCode{}, s.noCodeYet(ctx, p, id)
		}
	}
}

// noCodeYet says why there is none.
func (s *Service) noCodeYet(ctx context.Context, p domain.Principal, id int64) error {
	why := "no worker has opened the channel."
	if c, err := s.store.Channel(ctx, p.OrganizationID, id); err == nil && c.Status.Worker != "" && c.Status.Reason != "" {
		why = c.Status.Reason
	}
	return domain.NewError(domain.CodeUnavailable, "There is no code yet: "+why+" Try again in a moment.")
}

var errNoCodeYet = errors.New("no code yet")

func (s *Service) linkCode(ctx context.Context, p domain.Principal, id int64) (LinkCode, error) {
	c, err := s.linkable(ctx, p, id)
	if err != nil {
		return LinkCode{}, err
	}
	if err := mustLink(c); err != nil {
		return LinkCode{}, err
	}
	if c.LinkingUserID != p.UserID {
		return LinkCode{}, domain.NewError(domain.CodeConflict, "Another admin is linking this channel. Connect it yourself to link it in their place.")
	}
	found, err := s.store.LinkCode(ctx, p.OrganizationID, id)
	if err != nil {
		return LinkCode{}, err
	}
	if found == nil || found.UserID != p.UserID {
		return LinkCode{}, errNoCodeYet
	}
	qr, err := s.sealer.Open(found.Code, sealLinkContext(id))
	if err != nil {
		return LinkCode{}, fmt.Errorf("open the code of channel %d: %w", id, err)
	}
	return LinkCode{ChannelID: id, QR: string(qr), ExpiresAt: found.ExpiresAt}, nil
}

// mustLink says why a channel does not wait for a phone.
func mustLink(c store.SealedChannel) error {
	switch state := c.Channel.Status.State; {
	case state == domain.ChannelConnected || c.Device != "" && c.Channel.Enabled:
		return domain.NewError(domain.CodeConflict, "This channel is linked already. Log it out to link another phone.")
	case !c.Channel.Enabled:
		return domain.NewError(domain.CodeConflict, "Nothing links this channel at the moment. Connect it first.")
	default:
		return nil
	}
}

// linkable returns a channel that is opened by linking a phone.
func (s *Service) linkable(ctx context.Context, p domain.Principal, id int64) (store.SealedChannel, error) {
	if err := onlyAdmin(p); err != nil {
		return store.SealedChannel{}, err
	}
	if _, err := s.store.Channel(ctx, p.OrganizationID, id); err != nil {
		return store.SealedChannel{}, err
	}
	c, err := s.store.LoadChannel(ctx, id)
	if err != nil {
		return store.SealedChannel{}, err
	}
	if _, err := s.parser(c.Channel.Kind); err != nil {
		return store.SealedChannel{}, err
	}
	if !channel.Of(c.Channel.Kind).Linking {
		return store.SealedChannel{}, domain.NewError(domain.CodeUnsupported,
			"This channel is opened with its credentials, not by QR or pairing code: there is nothing to link or to log out. Change its config instead.")
	}
	return c, nil
}

// PairCode returns the code with which the phone of a number links itself to a
// channel that is being linked.
func (s *Service) PairCode(ctx context.Context, p domain.Principal, id int64, phone string) (channel.PairCode, error) {
	var code channel.PairCode
	c, err := s.linkable(ctx, p, id)
	if err != nil {
		return code, err
	}
	if err := mustLink(c); err != nil {
		return code, err
	}
	if c.LinkingUserID != p.UserID {
		return code, domain.NewError(domain.CodeConflict, "Another admin is linking this channel. Connect it yourself to link it in their place.")
	}
	digits, err := normalizePhone(phone)
	if err != nil {
		return code, err
	}
	return code, s.ask(ctx, id, channel.AskPairCode, digits, &code)
}

// LogoutChannel ends the link of a channel: its phone forgets it, and the
// channel is off until it is linked anew. Its chats stay.
func (s *Service) LogoutChannel(ctx context.Context, p domain.Principal, id int64) (domain.Channel, error) {
	if _, err := s.linkable(ctx, p, id); err != nil {
		return domain.Channel{}, err
	}
	return s.switchChannel(ctx, p, id, func(tx *store.Tx, c store.SealedChannel) (domain.ChannelStatus, bool, error) {
		if c.Device == "" {
			if !c.Channel.Enabled {
				return c.Channel.Status, false, nil
			}
			return domain.ChannelStatus{State: domain.ChannelDisconnected, Reason: "An admin ended the linking of the channel."}, true, tx.SwitchChannel(id, false)
		}
		return domain.ChannelStatus{State: domain.ChannelConnecting, Code: "logging_out", Reason: "The link with the phone is being ended."}, true, tx.AskUnlink(id)
	})
}

// ask puts a question to the session of a channel and waits for its answer.
func (s *Service) ask(ctx context.Context, channelID int64, kind channel.AskKind, argument string, answer any) error {
	deadline := time.Now().Add(askPatience)
	id, err := s.store.AskSession(ctx, channelID, string(kind), argument, askPatience, maxAsked)
	if errors.Is(err, store.ErrManyRequests) {
		return domain.Errorf(domain.CodeRateLimited,
			"%d questions about numbers wait for WhatsApp's answer on this channel already, and no more may. Try again in a moment.", maxAsked)
	}
	if err != nil {
		return err
	}
	defer func() {
		forget, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.store.ForgetSessionRequest(forget, id) // what is left is forgotten later
	}()
	s.waker.Attend(channelID)
	var looks rests
	for {
		text, done, err := s.store.SessionAnswer(ctx, id)
		if err != nil {
			return err
		}
		if done {
			return readAnswer(text, answer)
		}
		if !looks.rest(ctx) || time.Now().After(deadline) {
			return domain.NewError(domain.CodeUnavailable, "The channel's worker does not answer. The channel's status says more; try again in a moment.")
		}
	}
}

// rests are the growing times between looks.
type rests struct{ last time.Duration }

// rest waits a moment, longer than the last one; false once ctx has ended.
func (r *rests) rest(ctx context.Context) bool {
	r.last = min(max(askRest, r.last*3/2), maxAskRest)
	timer := time.NewTimer(r.last)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sessionAnswer is what a session says to a question: one of the two.
type sessionAnswer struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error *domain.Error   `json:"error,omitempty"`
}

func readAnswer(text string, into any) error {
	var a sessionAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return fmt.Errorf("read the answer of a session: %w", err)
	}
	if a.Error != nil {
		return a.Error
	}
	return json.Unmarshal(a.Value, into)
}

// Answer writes what a session said to a question. Only what is a *domain.Error
// is told to whoever asked.
func (s *Service) Answer(ctx context.Context, lease store.Lease, request int64, value any, cause error) error {
	var a sessionAnswer
	if cause != nil {
		if !errors.As(cause, &a.Error) {
			a.Error = domain.NewError(domain.CodeUnavailable, "The channel could not find out just now. Try again in a moment.")
		}
	} else {
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("encode the answer of a session: %w", err)
		}
		a.Value = raw
	}
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode the answer of a session: %w", err)
	}
	return s.store.AnswerSession(ctx, lease, request, string(text))
}

func sealLinkContext(channelID int64) string { return fmt.Sprintf("link:%d", channelID) }

// ShowLink shows a QR code to the admin who asked for the link, and to nobody
// else; an empty one takes the last away. guards are those of the worker.
func (s *Service) ShowLink(ctx context.Context, channelID int64, qr string, expires time.Time, guards ...store.Guard) error {
	organizationID, err := s.organizationOf(ctx, channelID)
	if err != nil {
		return err
	}
	return s.write(ctx, organizationID, func(tx *store.Tx) error {
		if qr == "" {
			return tx.HideLinkCode(channelID)
		}
		code := LinkCode{ChannelID: channelID, QR: qr, ExpiresAt: domain.At(expires)}
		userID, err := tx.ShowLinkCode(channelID, s.sealer.Seal([]byte(qr), sealLinkContext(channelID)), code.ExpiresAt)
		if err == nil && userID != 0 {
			tx.User(userID, domain.EventChannelQR, code)
		}
		return err
	}, guards...)
}

// AdmitNumber says whether a number may become a channel: an error for people if
// it may not.
func (s *Service) AdmitNumber(ctx context.Context, channelID int64, number string) error {
	c, err := s.store.LoadChannel(ctx, channelID)
	if err != nil {
		return err
	}
	if c.ExternalKey != "" && c.ExternalKey != number {
		return domain.NewError(domain.CodeConflict,
			"This channel belongs to another number, whose chats it has. Link that phone again, or make a new channel for this one.")
	}
	others, err := s.store.ChannelsByExternalKey(ctx, c.Channel.Kind, []string{number})
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.Channel.ID != channelID {
			return taken(store.ErrChannelTaken)
		}
	}
	return nil
}

// KeepLink keeps the number and the device that a channel is about to be linked
// to, so that no other channel is linked to it meanwhile. Once the channel has
// been connected the number is its own for good; until then EndLink frees it.
func (s *Service) KeepLink(ctx context.Context, channelID int64, number, device string, guards ...store.Guard) error {
	organizationID, err := s.organizationOf(ctx, channelID)
	if err != nil {
		return err
	}
	return s.write(ctx, organizationID, func(tx *store.Tx) error {
		c, err := tx.LockChannel(channelID)
		if err != nil {
			return err
		}
		return taken(tx.LinkDevice(c.Channel.ID, number, device))
	}, guards...)
}

// EndLink forgets the device of a channel and switches the channel off: nobody
// shall be shown codes who did not ask for them. A number as which the channel
// never was connected is forgotten with it, or a phone whose linking failed would
// keep all others out. Why is shown with it, since the session is told to end as
// soon as the channel is off.
func (s *Service) EndLink(ctx context.Context, channelID int64, shown domain.ChannelStatus, guards ...store.Guard) error {
	organizationID, err := s.organizationOf(ctx, channelID)
	if err != nil {
		return err
	}
	return s.write(ctx, organizationID, func(tx *store.Tx) error {
		c, err := tx.LockChannel(channelID)
		if domain.CodeOf(err) == domain.CodeNotFound {
			return tx.ForgetDevice(channelID) // the last that a deleted channel had to do
		}
		if err != nil {
			return err
		}
		if err := tx.HideLinkCode(channelID); err != nil {
			return err
		}
		if err := tx.UnlinkDevice(c); err != nil {
			return err
		}
		_, err = setStatus(tx, c.Channel, shown)
		return err
	}, guards...)
}

// resolve finds who has a phone number on a network where that must be asked.
func (s *Service) resolve(ctx context.Context, p domain.Principal, in NewChat) (peer domain.Peer, err error) {
	c, err := s.store.Channel(ctx, p.OrganizationID, in.ChannelID)
	if err != nil || !channel.Of(c.Kind).Linking || s.kinds[c.Kind] == nil {
		return peer, err
	}
	if in.Username != "" {
		return peer, domain.Invalid("username", "WhatsApp knows people by phone number: give phone instead.")
	}
	digits, err := normalizePhone(in.Phone)
	if err != nil {
		return peer, err
	}
	if c.Status.State != domain.ChannelConnected {
		return peer, domain.NewError(domain.CodeConflict, "The channel is not connected, so nobody can be looked up on WhatsApp. Connect it first.")
	}
	return peer, s.ask(ctx, in.ChannelID, channel.AskResolve, digits, &peer)
}
