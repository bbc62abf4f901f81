package inbox

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"unicode/utf8"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// ConfigParser checks what an admin entered for a kind of channel and parts it into what may be shown (public) and what is
// sealed (secrets), both under the names that they came by. externalKey is who the channel is at the provider; one channel
// each has it. An error is a *domain.Error with the field "config.<name>".
type ConfigParser func(config map[string]any) (public, secrets map[string]string, externalKey string, err error)

// Sealer encrypts credentials at rest. What is sealed for one context opens under no other.
type Sealer interface {
	Seal(plaintext []byte, context string) []byte
	Open(sealed []byte, context string) ([]byte, error)
}

// verifyToken is the secret by which a provider proves that a webhook's address is its own; it is found by its hash.
const verifyToken = "verifyToken"

// OpenChannel is a channel with its credentials, for who speaks to its provider. It must stay in memory.
type OpenChannel struct {
	OrganizationID int64
	Channel        domain.Channel
	ExternalKey    string
	Secrets        map[string]string
	// Device is the linked device of a channel that is opened by linking; Unlink:
	// an admin wants the link to end; Deleted: that is all that is left to do.
	Device          string
	Unlink, Deleted bool
	// Version rises when the channel is changed or connected anew.
	Version int64
}

// Channels lists the channels of the caller's organization, oldest first, behind the id after.
func (s *Service) Channels(ctx context.Context, p domain.Principal, after int64, limit int) ([]domain.Channel, error) {
	return s.store.Channels(ctx, p.OrganizationID, after, limit)
}

// Channel returns a channel of the caller's organization.
func (s *Service) Channel(ctx context.Context, p domain.Principal, id int64) (domain.Channel, error) {
	return s.store.Channel(ctx, p.OrganizationID, id)
}

// CreateChannel adds a channel. One that needs no linking connects at once.
func (s *Service) CreateChannel(ctx context.Context, p domain.Principal, kind domain.ChannelKind, name string, config map[string]any) (domain.Channel, error) {
	if err := onlyAdmin(p); err != nil {
		return domain.Channel{}, err
	}
	name, err := checkName(name)
	if err != nil {
		return domain.Channel{}, err
	}
	parse, err := s.parser(kind)
	if err != nil {
		return domain.Channel{}, err
	}
	public, secrets, externalKey, err := parse(config)
	if err != nil {
		return domain.Channel{}, err
	}
	var created domain.Channel
	err = s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		c := store.SealedChannel{ExternalKey: externalKey, Version: 1, Channel: domain.Channel{
			Kind: kind, Name: name, Config: public, Enabled: !channel.Of(kind).Linking,
			Status: domain.ChannelStatus{State: domain.ChannelDisconnected, Reason: "Connect the channel to link it.", Since: tx.Now()},
		}}
		if c.Channel.Enabled {
			c.Channel.Status.State, c.Channel.Status.Reason = domain.ChannelConnecting, waitsForWorker
		}
		id, err := tx.InsertChannel(c)
		if err != nil {
			return taken(err)
		}
		c.Channel.ID = id
		if c.Sealed, err = s.seal(id, secrets); err != nil {
			return err
		}
		if err := tx.SaveChannel(c, verifyHash(secrets)); err != nil {
			return taken(err)
		}
		c, err = tx.LockChannel(id)
		created = c.Channel
		tx.Broadcast(domain.EventChannelStatus, created.Status)
		return err
	})
	if err != nil {
		return domain.Channel{}, err
	}
	s.channelChanged(created.ID)
	return created, nil
}

const waitsForWorker = "Waiting for a worker to open the channel."

// ChannelChange is what an admin changes of a channel. Config holds only the settings that change: nil takes one away.
type ChannelChange struct {
	Name   *string
	Config map[string]any
}

// UpdateChannel changes a channel. With new settings its session begins anew.
func (s *Service) UpdateChannel(ctx context.Context, p domain.Principal, id int64, change ChannelChange) (domain.Channel, error) {
	if err := onlyAdmin(p); err != nil {
		return domain.Channel{}, err
	}
	if change.Name != nil {
		name, err := checkName(*change.Name)
		if err != nil {
			return domain.Channel{}, err
		}
		change.Name = &name
	}
	var updated domain.Channel
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		c, err := tx.LockChannel(id)
		if err != nil {
			return err
		}
		if change.Name != nil && *change.Name != c.Channel.Name {
			c.Channel.Name = *change.Name
			if err := tx.RenameChannel(id, c.Channel.Name); err != nil {
				return err
			}
		}
		if len(change.Config) > 0 {
			if err := s.reconfigure(tx, c, change.Config); err != nil {
				return err
			}
		}
		c, err = tx.LockChannel(id)
		updated = c.Channel
		return err
	})
	if err != nil {
		return domain.Channel{}, err
	}
	s.channelChanged(id)
	return updated, nil
}

// reconfigure lays changed settings over the present ones.
func (s *Service) reconfigure(tx *store.Tx, c store.SealedChannel, changes map[string]any) error {
	parse, err := s.parser(c.Channel.Kind)
	if err != nil {
		return err
	}
	secrets, err := s.unseal(c)
	if err != nil {
		// Without the key that sealed them they are lost; entering all of them again must be possible.
		s.logger.Warn("credentials of a channel cannot be opened; they must be entered again",
			slog.Int64("channel_id", c.Channel.ID), slog.Any("error", err))
		secrets = nil
	}
	config := map[string]any{}
	for name, value := range c.Channel.Config {
		config[name] = value
	}
	for name, value := range secrets {
		config[name] = value
	}
	maps.Copy(config, changes)
	public, next, externalKey, err := parse(config)
	if err != nil {
		return err
	}
	if externalKey != c.ExternalKey {
		return domain.NewError(domain.CodeConflict,
			"These settings are of another number or bot, whose chats are not this channel's. Make a new channel for it.")
	}
	if maps.Equal(public, c.Channel.Config) && maps.Equal(next, secrets) {
		return nil
	}
	c.Channel.Config, c.Version = public, c.Version+1
	if c.Sealed, err = s.seal(c.Channel.ID, next); err != nil {
		return err
	}
	return taken(tx.SaveChannel(c, verifyHash(next)))
}

// ConnectChannel makes a worker open a channel. A channel that is connected, or about to be, stays as it is; one that waits to
// be linked shows its codes to whoever connected it last.
func (s *Service) ConnectChannel(ctx context.Context, p domain.Principal, id int64) (domain.Channel, error) {
	return s.switchChannel(ctx, p, id, func(tx *store.Tx, sealed store.SealedChannel) (domain.ChannelStatus, bool, error) {
		c := sealed.Channel
		if _, err := s.parser(c.Kind); err != nil {
			return c.Status, false, err
		}
		if channel.Of(c.Kind).Linking && sealed.Device == "" {
			if err := tx.AskLink(id, p.UserID); err != nil {
				return c.Status, false, err
			}
		}
		switch c.Status.State {
		case domain.ChannelConnected, domain.ChannelConnecting, domain.ChannelQR, domain.ChannelPairing:
			// Codes that another admin was shown are worth nothing from now on.
			others := channel.Of(c.Kind).Linking && sealed.Device == "" && sealed.LinkingUserID != 0 && sealed.LinkingUserID != p.UserID
			if c.Enabled && !others {
				return c.Status, false, nil
			}
		default:
		}
		return domain.ChannelStatus{State: domain.ChannelConnecting, Reason: waitsForWorker}, true, tx.SwitchChannel(id, true)
	})
}

// DisconnectChannel makes its worker close a channel, until somebody connects it.
func (s *Service) DisconnectChannel(ctx context.Context, p domain.Principal, id int64) (domain.Channel, error) {
	return s.switchChannel(ctx, p, id, func(tx *store.Tx, sealed store.SealedChannel) (domain.ChannelStatus, bool, error) {
		c := sealed.Channel
		if !c.Enabled && c.Status.State == domain.ChannelDisconnected {
			return c.Status, false, nil
		}
		if err := tx.HideLinkCode(id); err != nil {
			return c.Status, false, err
		}
		return domain.ChannelStatus{State: domain.ChannelDisconnected, Reason: "An admin disconnected the channel."}, true, tx.SwitchChannel(id, false)
	})
}

// switchChannel runs fn on a locked channel and, if it says so, sets the status that it returned.
func (s *Service) switchChannel(ctx context.Context, p domain.Principal, id int64,
	fn func(*store.Tx, store.SealedChannel) (status domain.ChannelStatus, changed bool, err error),
) (domain.Channel, error) {
	if err := onlyAdmin(p); err != nil {
		return domain.Channel{}, err
	}
	var (
		result domain.Channel
		wake   bool
	)
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		c, err := tx.LockChannel(id)
		if err != nil {
			return err
		}
		status, changed, err := fn(tx, c)
		result, wake = c.Channel, changed
		if err != nil || !changed {
			return err
		}
		if _, err := setStatus(tx, c.Channel, status); err != nil {
			return err
		}
		c, err = tx.LockChannel(id)
		result = c.Channel
		return err
	})
	if err == nil && wake {
		s.channelChanged(id)
	}
	return result, err
}

// DeleteChannel takes a channel away for good. Its chats stay readable; what it has not sent fails. If a phone is linked to
// it, a worker tells it that the link has ended.
func (s *Service) DeleteChannel(ctx context.Context, p domain.Principal, id int64) error {
	if err := onlyAdmin(p); err != nil {
		return err
	}
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		if _, err := tx.LockChannel(id); err != nil {
			return err
		}
		if err := tx.DeleteChannel(id); err != nil {
			return err
		}
		changes, err := tx.AbandonOutbox(id, domain.SendError{Code: "channel_deleted", Message: "The channel was deleted before the message was sent."})
		if err != nil {
			return err
		}
		for _, change := range changes {
			tx.MessageStatus(change)
		}
		messageIDs, err := tx.AbandonMedia(id, "The channel was deleted before the file was fetched.")
		if err != nil {
			return err
		}
		for _, messageID := range messageIDs {
			if messageID == 0 {
				continue
			}
			if err := messageUpdated(tx, messageID); err != nil {
				return err
			}
		}
		tx.Broadcast(domain.EventChannelDeleted, domain.ChannelDeleted{ChannelID: id})
		return nil
	})
	if err == nil {
		s.channelChanged(id)
	}
	return err
}

// SetChannelStatus tells how a channel is. Telling the same again makes no event, and a channel that an admin has switched off
// is not shown as on by a session that has not heard of it yet. guards are those of the worker that runs the channel.
func (s *Service) SetChannelStatus(ctx context.Context, channelID int64, status domain.ChannelStatus, guards ...store.Guard) error {
	organizationID, err := s.organizationOf(ctx, channelID)
	if err != nil {
		return err
	}
	return s.write(ctx, organizationID, func(tx *store.Tx) error {
		c, err := tx.LockChannel(channelID)
		if domain.CodeOf(err) == domain.CodeNotFound {
			return nil // deleted meanwhile: nobody looks at it any more
		}
		if err != nil {
			return err
		}
		if !c.Channel.Enabled && opening(status.State) {
			return nil
		}
		if status.State == domain.ChannelConnected && channel.Of(c.Channel.Kind).Linking {
			if err := tx.KeepNumber(c); err != nil {
				return err
			}
		}
		_, err = setStatus(tx, c.Channel, status)
		return err
	}, guards...)
}

func opening(state domain.ChannelState) bool {
	switch state {
	case domain.ChannelConnecting, domain.ChannelQR, domain.ChannelPairing, domain.ChannelConnected:
		return true
	default:
		return false
	}
}

// setStatus writes a locked channel's status and tells of it, if it is another one.
func setStatus(tx *store.Tx, c domain.Channel, status domain.ChannelStatus) (changed bool, err error) {
	status.ChannelID = c.ID
	switch {
	case status.State == c.Status.State:
		status.Since = c.Status.Since
	case status.Since == 0:
		status.Since = tx.Now()
	}
	if status == c.Status {
		return false, nil
	}
	if err := tx.SetChannelStatus(status); err != nil {
		return false, err
	}
	shown := c.Status
	if shown.Retries = status.Retries; shown == status {
		return true, nil // nobody sees a difference
	}
	tx.Broadcast(domain.EventChannelStatus, status)
	return true, nil
}

// LoadChannel returns a channel with its credentials, for the worker that runs it.
func (s *Service) LoadChannel(ctx context.Context, channelID int64) (OpenChannel, error) {
	c, err := s.store.RunChannel(ctx, channelID)
	if err != nil {
		return OpenChannel{}, err
	}
	return s.open(c)
}

func (s *Service) open(c store.SealedChannel) (OpenChannel, error) {
	secrets, err := s.unseal(c)
	return OpenChannel{
		OrganizationID: c.OrganizationID, Channel: c.Channel, ExternalKey: c.ExternalKey, Secrets: secrets, Version: c.Version,
		Device: c.Device, Unlink: c.Unlink, Deleted: c.Deleted,
	}, err
}

// channelChanged makes this process forget what it knows of a channel and wakes the channel's worker.
func (s *Service) channelChanged(id int64) {
	s.sources.clear()
	s.waker.Attend(id)
}

func onlyAdmin(p domain.Principal) error {
	if p.IsAdmin() {
		return nil
	}
	return domain.NewError(domain.CodeForbidden, "Only an admin of your organization may do this.")
}

func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || utf8.RuneCountInString(name) > maxNameSize {
		return "", domain.Invalid("name", fmt.Sprintf("A name has 1 to %d characters.", maxNameSize))
	}
	return name, nil
}

func (s *Service) parser(kind domain.ChannelKind) (ConfigParser, error) {
	if !kind.Valid() {
		return nil, domain.Invalid("kind", "A channel is of kind whatsapp, waba or telegram.")
	}
	if parse := s.kinds[kind]; parse != nil {
		return parse, nil
	}
	return nil, unavailableKind(kind)
}

func unavailableKind(kind domain.ChannelKind) error {
	return domain.Errorf(domain.CodeUnsupported, "This installation cannot run channels of kind %s.", kind)
}

func taken(err error) error {
	if errors.Is(err, store.ErrChannelTaken) {
		return domain.NewError(domain.CodeConflict, "This number or bot is a channel already. Each can be one channel only; delete the other one first.")
	}
	return err
}

func sealContext(channelID int64) string { return fmt.Sprintf("channel:%d", channelID) }

func (s *Service) seal(channelID int64, secrets map[string]string) ([]byte, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("encode the secrets of channel %d: %w", channelID, err)
	}
	return s.sealer.Seal(plain, sealContext(channelID)), nil
}

func (s *Service) unseal(c store.SealedChannel) (map[string]string, error) {
	secrets := map[string]string{}
	if len(c.Sealed) == 0 {
		return secrets, nil
	}
	plain, err := s.sealer.Open(c.Sealed, sealContext(c.Channel.ID))
	if err != nil {
		return nil, fmt.Errorf("secrets of channel %d: %w", c.Channel.ID, err)
	}
	if err := json.Unmarshal(plain, &secrets); err != nil {
		return nil, fmt.Errorf("secrets of channel %d are damaged", c.Channel.ID) // the cause may quote them
	}
	return secrets, nil
}

func verifyHash(secrets map[string]string) []byte {
	token := secrets[verifyToken]
	if token == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// ChannelByVerifyToken finds a channel of a kind by its webhook's verify token. How long it takes tells nothing of the token:
// only hashes are compared.
func (s *Service) ChannelByVerifyToken(ctx context.Context, kind domain.ChannelKind, token string) (channelID int64, found bool, err error) {
	if token == "" {
		return 0, false, nil
	}
	sum := sha256.Sum256([]byte(token))
	id, stored, err := s.store.VerifyHash(ctx, kind, sum[:])
	if err != nil || id == 0 || subtle.ConstantTimeCompare(sum[:], stored) != 1 {
		return 0, false, err
	}
	return id, true, nil
}
