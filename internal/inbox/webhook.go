package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// WebhookItem is one part of a webhook: something that happened on a channel,
// or something that could not be read.
type WebhookItem struct {
	ChannelID int64
	Inbound   domain.Inbound
	// Raw is the provider's form of the item.
	Raw []byte
	// Poison is why the item could not be read; it is set aside.
	Poison error
}

// Webhook is a committed delivery, read.
type Webhook struct {
	DeliveryID int64
	Items      []WebhookItem
	// LastTry: it was claimed often enough. Items that fail once more are set
	// aside whatever the reason, unless the database is away.
	LastTry bool
}

// NoteFailure remembers why webhooks could not be processed yet.
func (s *Service) NoteFailure(ctx context.Context, deliveryIDs []int64, cause error) error {
	return s.store.NoteDelivery(ctx, deliveryIDs, cause.Error())
}

// CommitWebhook commits a webhook's body. After that its sender may be told
// that it has arrived: whatever happens, its content will be stored. For the
// time of claim the caller is the one who calls ReceiveWebhooks for it.
func (s *Service) CommitWebhook(ctx context.Context, kind domain.ChannelKind, channelIDs []int64, body []byte, claim time.Duration) (int64, error) {
	return s.store.InsertDelivery(ctx, store.Delivery{Kind: kind, ChannelIDs: channelIDs, Body: body}, claim)
}

// ClaimWebhooks takes committed webhooks that nobody works on any more.
func (s *Service) ClaimWebhooks(ctx context.Context, limit int, claim time.Duration) ([]store.Delivery, error) {
	return s.store.ClaimDeliveries(ctx, limit, claim)
}

// RenewWebhooks prolongs the claims on webhooks that are being worked on.
func (s *Service) RenewWebhooks(ctx context.Context, deliveryIDs []int64, claim time.Duration) error {
	return s.store.RenewDeliveries(ctx, deliveryIDs, claim)
}

// ReleaseWebhooks ends the claims on webhooks that somebody else shall process.
func (s *Service) ReleaseWebhooks(ctx context.Context, deliveryIDs []int64) error {
	return s.store.ReleaseDeliveries(ctx, deliveryIDs)
}

// PendingWebhooks counts the webhooks that are committed and not processed.
func (s *Service) PendingWebhooks(ctx context.Context) (int64, error) {
	return s.store.PendingDeliveries(ctx)
}

// ReceiveWebhooks stores the content of webhooks, in order, and removes their
// raw bodies: one transaction for each organization. An error means that some
// may not be stored; they will be claimed again.
func (s *Service) ReceiveWebhooks(ctx context.Context, webhooks []Webhook) error {
	work, order, err := s.sort(ctx, webhooks)
	if err != nil {
		return err
	}
	var failed error
	for _, organizationID := range order {
		w := work[organizationID]
		var finish func(*store.Tx) error
		if len(w.whole) > 0 {
			finish = func(tx *store.Tx) error { return tx.DropDeliveries(w.whole) }
		}
		failed = errors.Join(failed, s.receive(ctx, organizationID, w.items, finish))
	}
	if failed != nil {
		return fmt.Errorf("receive webhooks: %w", failed)
	}
	if rest := work[noOrganization].whole; len(rest) > 0 {
		return s.store.DropDeliveries(ctx, rest)
	}
	return nil
}

// noOrganization collects the deliveries that end when all organizations that
// they concern are done.
const noOrganization = 0

type organizationWork struct {
	items []channelItem
	whole []int64 // deliveries that concern this organization only
}

// sort parts webhooks by organization and sets poison items aside.
func (s *Service) sort(ctx context.Context, webhooks []Webhook) (map[int64]*organizationWork, []int64, error) {
	work := map[int64]*organizationWork{noOrganization: {}}
	var order []int64
	for _, webhook := range webhooks {
		owner := int64(noOrganization)
		shared := false
		for _, item := range webhook.Items {
			organizationID, err := s.organizationOf(ctx, item.ChannelID)
			if err != nil {
				return nil, nil, err
			}
			ci := channelItem{channelID: item.ChannelID, inbound: item.Inbound, raw: item.Raw, last: webhook.LastTry}
			if item.Poison != nil {
				if err := s.setAside(ctx, organizationID, ci, item.Poison, nil); err != nil {
					return nil, nil, err
				}
				continue
			}
			if work[organizationID] == nil {
				work[organizationID] = &organizationWork{}
				order = append(order, organizationID)
			}
			work[organizationID].items = append(work[organizationID].items, ci)
			shared = shared || owner != noOrganization && owner != organizationID
			owner = organizationID
		}
		if shared {
			owner = noOrganization
		}
		work[owner].whole = append(work[owner].whole, webhook.DeliveryID)
	}
	return work, order, nil
}

// organizationOf tells whose a channel is; that never changes, so it is asked
// of the database once.
func (s *Service) organizationOf(ctx context.Context, channelID int64) (int64, error) {
	if id, ok := s.owners.Load(channelID); ok {
		return id.(int64), nil
	}
	id, err := s.store.ChannelOrganization(ctx, channelID)
	if err == nil {
		s.owners.Store(channelID, id)
	}
	return id, err
}
