package inbox

import (
	"context"
	"errors"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// codeNoWorker is the status code of a channel that no worker runs.
const codeNoWorker = "no_worker"

// ShowOrphans makes channels look dead whose worker is gone without another one
// taking over for longer than grace: a channel that shows green and receives
// nothing is worse than one that is down. A worker that takes such a channel
// shows its own state again.
func (s *Service) ShowOrphans(ctx context.Context, grace time.Duration) error {
	ids, err := s.store.Orphans(ctx, grace)
	if err != nil {
		return err
	}
	var failed error
	for _, id := range ids {
		err := s.SetChannelStatus(ctx, id, domain.ChannelStatus{
			State: domain.ChannelDisconnected, Code: codeNoWorker,
			Reason: "No worker runs this channel any more. Start one, or see in its log why it ended.",
		}, store.Orphaned(id, grace))
		if !errors.Is(err, store.ErrOwned) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
