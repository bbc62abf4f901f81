package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

// fetch downloads one file when there is room in the worker.
func (d *dispatcher) fetch(ctx context.Context, fetcher channel.MediaFetcher, job store.MediaJob) {
	if job.Imported {
		if !d.enter(ctx, d.s.w.importRoom) {
			return
		}
		defer func() { <-d.s.w.importRoom }()
	}
	if !d.enter(ctx, d.s.w.mediaRoom) {
		return
	}
	defer func() { <-d.s.w.mediaRoom }()
	// A download need not be finished when the session is stopped.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-d.quitting:
			cancel()
		case <-ended:
		}
	}()

	err := d.s.w.o.Media.Fetch(ctx, d.org, d.lease, job, func(ctx context.Context, ref string) (io.ReadCloser, error) {
		var body io.ReadCloser
		err := d.s.guard("fetch media", func() error {
			var err error
			body, err = fetcher.FetchMedia(ctx, ref)
			return err
		})
		if err != nil {
			return nil, mediaError(err)
		}
		if body == nil {
			return nil, errors.New("the session gave no file")
		}
		return body, nil
	})
	d.s.holding.check(err)
	if err != nil && ctx.Err() == nil {
		d.s.logger.WarnContext(ctx, "download could not be settled and will be repeated", slog.Int64("media", job.ID), slog.Any("error", withoutURL(err)))
		pause(ctx, time.Second) // it is due still
	}
}

// enter waits for a place in a room, unless the session ends before.
func (d *dispatcher) enter(ctx context.Context, room chan<- struct{}) bool {
	select {
	case room <- struct{}{}:
		return true
	case <-d.quitting:
		return false
	case <-ctx.Done():
		return false
	}
}

// mediaError tells apart what may succeed later.
func mediaError(err error) error {
	var failure *channel.SendError
	if !errors.As(err, &failure) || failure.Outcome != channel.Refused {
		return err
	}
	message := failure.Message
	if message == "" {
		message = "The provider does not have this file any more."
	}
	return fmt.Errorf("%w", &inbox.MediaGone{Message: message})
}
