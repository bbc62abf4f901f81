package inbox

import (
	"context"
	"errors"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// The status codes of a channel that no worker runs: none is there that would
// take it, or none has room.
const (
	codeNoWorker = "no_worker"
	codeNoRoom   = "no_room"
)

// ShowOrphans makes channels look dead whose worker is gone without another one
// taking over for longer than grace: a channel that shows green and receives
// nothing is worse than one that is down. A worker that takes such a channel
// shows its own state again.
func (s *Service) ShowOrphans(ctx context.Context, grace time.Duration) error {
	lives, room, err := s.store.PoolHasRoom(ctx)
	if err != nil {
		return err
	}
	shown := domain.ChannelStatus{State: domain.ChannelDisconnected, Code: codeNoWorker}
	switch {
	case !lives:
		shown.Reason = "No worker runs this channel. Start one, or see in its log why it ended."
	case room:
		shown.Reason = "No worker runs this channel, although there is room for it. See in the workers' logs why."
	default:
		shown.Code = codeNoRoom
		shown.Reason = "No worker has room for this channel. Start another one, or raise WORKER_MAX_CHANNELS."
	}
	ids, err := s.store.Orphans(ctx, grace, shown.Code)
	if err != nil {
		return err
	}
	var failed error
	for _, id := range ids {
		err := s.SetChannelStatus(ctx, id, shown, store.Orphaned(id, grace))
		if !errors.Is(err, store.ErrOwned) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// ChannelsWithoutWorker counts the channels that should run and that no worker
// has held for longer than grace.
func (s *Service) ChannelsWithoutWorker(ctx context.Context, grace time.Duration) (int64, error) {
	return s.store.Unowned(ctx, grace)
}
