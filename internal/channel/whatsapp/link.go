package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

const (
	scanIt = "Scan the code with the phone: WhatsApp, Settings, Linked devices, Link a device."
	// pairTimeout bounds what comes after a code was scanned.
	pairTimeout = 2 * time.Minute
	// unlinkTimeout bounds the connection that tells the phone of the end of the
	// link.
	unlinkTimeout = 30 * time.Second
)

// linking is an attempt to link a phone.
type linking struct {
	s      *Session
	client *whatsmeow.Client
	ctx    context.Context //nolint:containedctx // the attempt's life

	mu       sync.Mutex // guards what follows
	admitted bool       // a phone is linking itself
	refusal  error      // why the phone that scanned may not become this channel
}

// pair shows codes until a phone has linked itself, which then is s.name. An
// error says why that did not happen; nobody is shown codes for ever.
//
// An attempt that takes another one's place does not show itself: somebody may be
// waiting for a pairing code.
func (s *Session) pair(ctx context.Context, renewed bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, wire := withWire(ctx)
	if !renewed {
		if err := s.host.SetStatus(ctx, domain.ChannelConnecting, "", "Asking WhatsApp for a code."); err != nil {
			return err
		}
	}
	client := s.newClient(s.keys.fresh())
	client.BackgroundEventCtx = ctx
	l := &linking{s: s, client: client, ctx: ctx}
	client.PrePairCallback = l.admit
	reconnect := make(chan struct{}, 1)
	client.AddEventHandler(func(evt any) {
		switch e := evt.(type) {
		case *events.QR:
			s.pairing.given(len(e.Codes))
		case *events.ManualLoginReconnect:
			select {
			case reconnect <- struct{}{}:
			default:
			}
		}
	})
	// Its end of the codes disconnects beside ours: a race in the library (wire.go).
	// They end with the connection.
	codes, err := client.GetQRChannel(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("ask for codes: %w", err)
	}
	defer wire.hangUp(client)
	defer cancel()
	if err := wire.dial(ctx, client); err != nil {
		return unreachable(err)
	}
	defer s.pairing.end()
	defer s.hideCode(ctx)
	if err := l.wait(codes); err != nil {
		return err
	}
	// WhatsApp ends the connection itself when it has what it needs.
	timer := time.NewTimer(pairTimeout)
	defer timer.Stop()
	select {
	case <-reconnect:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.name = client.Store.ID.String()
	s.logger.InfoContext(ctx, "phone linked")
	return nil
}

// hideCode takes the code off the screens.
func (s *Session) hideCode(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.link.Show(ctx, "", time.Time{}); err != nil {
		s.logger.DebugContext(ctx, "code not taken away; it expires by itself", slogErr(err))
	}
}

// wait shows code after code until a phone is linked.
func (l *linking) wait(codes <-chan whatsmeow.QRChannelItem) error {
	s := l.s
	var last time.Time // when the code on show ends
	for {
		var item whatsmeow.QRChannelItem
		var open bool
		select {
		case item, open = <-codes:
		case <-s.pairing.renew:
			if !l.busy() {
				return errRenewed
			}
			continue
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
		if !open {
			return unreachable(errBroken)
		}
		switch item.Event {
		case whatsmeow.QRChannelEventCode:
			last = time.Now().Add(item.Timeout)
			if err := s.link.Show(l.ctx, item.Code, last); err != nil {
				return err
			}
			s.pairing.begin(l.client)
			if s.pairing.typing() {
				continue // what to do with it stays on show
			}
			if err := s.host.SetStatus(l.ctx, domain.ChannelQR, "", scanIt); err != nil {
				return err
			}
		case whatsmeow.QRChannelSuccess.Event:
			return nil
		case whatsmeow.QRChannelTimeout.Event:
			if time.Until(last) > time.Second && l.refused() == nil {
				return unreachable(errBroken) // it is not that nobody scanned
			}
			return l.failed(item)
		default:
			return l.failed(item)
		}
	}
}

// busy reports whether a phone is linking itself.
func (l *linking) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.admitted
}

func (l *linking) refused() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

// failed says why no phone was linked.
func (l *linking) failed(item whatsmeow.QRChannelItem) error {
	s := l.s
	refusal := l.refused()
	var user *domain.Error
	switch {
	case errors.As(refusal, &user):
		return s.unlinked(l.ctx, codeLinkRefused, user.Message+" The phone may list a link now that leads nowhere: remove it there.")
	case refusal != nil:
		return refusal
	case item.Event == whatsmeow.QRChannelTimeout.Event && l.client.Store.ID == nil:
		return s.unlinked(l.ctx, codeNotScanned, "No phone was linked in time. Connect the channel again to get new codes.")
	case item.Event == whatsmeow.QRChannelEventPasskeyRequest, item.Event == whatsmeow.QRChannelEventPasskeyResponse:
		return s.unlinked(l.ctx, codePasskey, "WhatsApp wants this account's passkey to link a device, which only WhatsApp's own site can ask for. "+
			"Take the passkey off on the phone (Settings, Account, Passkeys), connect the channel again, and add it afterwards.")
	case item.Event == whatsmeow.QRChannelScannedWithoutMultidevice.Event:
		return s.unlinked(l.ctx, codeOldPhone, "The phone's WhatsApp is too old to link devices. Update it there, then connect the channel again.")
	case item.Event == whatsmeow.QRChannelClientOutdated.Event:
		return downOf(&events.ClientOutdated{})
	case item.Error != nil:
		s.logger.WarnContext(l.ctx, "phone could not be linked", slog.String("error_type", fmt.Sprintf("%T", item.Error)))
		return s.unlinked(l.ctx, codeLinkFailed, "The phone and this installation could not agree on their keys. Connect the channel again and scan the new code.")
	default:
		return unreachable(fmt.Errorf("linking ended: %s", item.Event))
	}
}

// admit is asked before the library keeps a phone: it may be another channel's,
// or not the one that this channel is. Who is admitted is kept before its keys
// are, so that a crash leaves no device that nobody knows.
func (l *linking) admit(jid types.JID, _, _ string) bool {
	err := l.s.link.Admit(l.ctx, jid.User)
	if err == nil {
		err = l.s.link.Linked(l.ctx, jid.User, jid.String())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admitted, l.refusal = err == nil, err
	return err == nil
}

// PairCode implements channel.PairCoder.
func (s *Session) PairCode(ctx context.Context, phone string) (channel.PairCode, error) {
	if err := s.link.Admit(ctx, phone); err != nil {
		return channel.PairCode{}, err
	}
	client := s.pairing.fresh(ctx)
	if client == nil {
		return channel.PairCode{}, domain.NewError(domain.CodeConflict, "The channel does not wait for a phone at the moment. Its status says more.")
	}
	code, err := client.PairPhone(ctx, phone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		var iq *whatsmeow.IQError
		if errors.As(err, &iq) && iq.Code == 429 {
			return channel.PairCode{}, domain.NewError(domain.CodeRateLimited, "WhatsApp gives no more codes for this number for a while. Scan the QR code, or try later.")
		}
		s.logger.WarnContext(ctx, "no pairing code", slog.String("error_type", fmt.Sprintf("%T", err)))
		return channel.PairCode{}, domain.NewError(domain.CodeUnavailable, "WhatsApp gave no code for this number. Check it, or scan the QR code.").WithCause(err)
	}
	expires := s.pairing.shown()
	err = s.host.SetStatus(ctx, domain.ChannelPairing, codePairCode,
		"Type the code into the phone: WhatsApp, Settings, Linked devices, Link a device, Link with phone number instead.")
	return channel.PairCode{Code: code, ExpiresAt: domain.At(expires)}, err
}

// unlinked forgets the device, switches the channel off, and says why.
func (s *Session) unlinked(ctx context.Context, code, reason string) error {
	state := domain.ChannelLoggedOut
	if s.name == "" {
		state = domain.ChannelDisconnected // it never was linked
	}
	if err := s.link.Unlinked(ctx, state, code, reason); err != nil {
		return err
	}
	return &channel.Down{State: state, Code: code, Reason: reason, Permanent: true}
}

// endLink tells WhatsApp that the link is over, as an admin wants, and forgets
// the keys. Where WhatsApp cannot be told the keys go all the same.
func (s *Session) endLink(ctx context.Context, device *store.Device) error {
	if err := s.host.SetStatus(ctx, domain.ChannelConnecting, "logging_out", "The link with the phone is being ended."); err != nil {
		return err
	}
	told := s.tellUnlink(ctx, device)
	if ctx.Err() != nil {
		return nil
	}
	reason := "The link was ended. Connect the channel to link it again."
	if told != nil {
		s.logger.WarnContext(ctx, "WhatsApp could not be told of the end of the link", slog.String("error_type", fmt.Sprintf("%T", told)))
		reason = "The link was ended here, but WhatsApp could not be told: remove it on the phone, too (Linked devices). Connect the channel to link it again."
		if err := s.forgetKeys(ctx); err != nil {
			return err
		}
	}
	return s.unlinked(ctx, codeUnlinked, reason)
}

func (s *Session) tellUnlink(ctx context.Context, device *store.Device) error {
	ctx, cancel := context.WithTimeout(ctx, unlinkTimeout)
	defer cancel()
	client, conn := s.newConnection(ctx, device)
	defer conn.wire.hangUp(client)
	defer conn.cancel(errOver)
	if err := conn.dial(client); err != nil {
		return err
	}
	select {
	case <-conn.opened:
	case <-conn.ctx.Done():
		if cause := conn.cause(); !isLoggedOut(cause) {
			return cause
		}
		return nil // it is over already
	}
	// As the library's Logout, which also disconnects, while WhatsApp does: see wire.
	_, err := client.DangerousInternals().SendIQ(ctx, whatsmeow.DangerousInfoQuery{ //nolint:staticcheck // marked so to warn, not to go
		Namespace: "md", Type: "set", To: types.ServerJID,
		Content: []waBinary.Node{{
			Tag: "remove-companion-device", Attrs: waBinary.Attrs{"jid": *device.ID, "reason": "user_initiated"},
		}},
	})
	if err != nil && isLoggedOut(conn.cause()) {
		return nil // WhatsApp was faster with that than with its answer
	}
	if err == nil {
		err = s.forgetKeys(ctx)
	}
	return err
}

// forgetKeys deletes the device from the database.
func (s *Session) forgetKeys(ctx context.Context) error {
	device, err := s.keys.device(ctx, s.name)
	if err == nil && device != nil {
		err = s.keys.container.DeleteDevice(ctx, device)
	}
	if err != nil {
		return fmt.Errorf("forget the keys: %w", err)
	}
	return nil
}
