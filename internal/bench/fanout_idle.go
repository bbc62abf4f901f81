package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// idleTurn is what sockets cost that do nothing but answer pings.
type idleTurn struct {
	base, full           float64 // resident bytes without and with the sockets
	goroutines, baseline float64 // with and without
	settled              bool    // the process came to rest in time, both times
	took                 time.Duration
}

// idleSockets compares what an idle socket takes of an API node's and of a Node server's memory.
func (b *fanBench) idleSockets(ctx context.Context, out io.Writer) error {
	_, _ = fmt.Fprintf(out, "idle: %d joined sockets of %d organizations; resident memory before and after, at rest\n\n", b.idle, b.idleOrganizations)
	t := newTable(out, "who", "base MB", "with sockets MB", "KB/socket", "goroutines", "at rest", "connected in s")
	found := map[string]idleTurn{}
	for _, name := range []string{ours, peer} {
		turn, err := b.idleTurn(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		found[name] = turn
		goroutines := "–"
		if name == ours {
			goroutines = fmt.Sprintf("%.0f → %.0f", turn.baseline, turn.goroutines)
		}
		t.row(name, fmt.Sprintf("%.1f", turn.base/1e6), fmt.Sprintf("%.1f", turn.full/1e6), fmt.Sprintf("%.2f", turn.kilobytesPerSocket(b.idle)),
			goroutines, fmt.Sprint(turn.settled), fmt.Sprintf("%.1f", turn.took.Seconds()))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	// Garbage that was there before makes sockets look small, and garbage that is there now makes them look large.
	unsettled := ""
	if !found[ours].settled {
		unsettled = fmt.Sprintf("the node had not come to rest after %s; -settle gives it longer", b.settle)
	}
	goal(out, "idle socket", found[ours].kilobytesPerSocket(b.idle), " KB", 13, unsettled)
	goal(out, "goroutines for an idle socket, beside one for each organization", found[ours].goroutinesPerSocket(b.idle, b.idleOrganizations), "", 1, "")
	_, _ = fmt.Fprintln(out)
	return nil
}

// A kilobyte has 1,000 bytes here, as in the goals.
func (t idleTurn) kilobytesPerSocket(sockets int) float64 {
	return (t.full - t.base) / 1000 / float64(sockets)
}

// goroutinesPerSocket leaves out the feeds, of which an organization has one, however many sockets it has. It is rounded to a
// hundredth: a few goroutines of the database's connections come and go.
func (t idleTurn) goroutinesPerSocket(sockets, organizations int) float64 {
	return math.Round((t.goroutines-t.baseline-float64(organizations))/float64(sockets)*100) / 100
}

func (b *fanBench) idleTurn(ctx context.Context, name string) (t idleTurn, err error) {
	order := fanOrder{Parallel: 32, Buffer: 2 << 10}
	var s *fanServer
	if name == ours {
		if order.Groups, err = b.groups(ctx, b.idle, b.idleOrganizations); err != nil {
			return t, err
		}
		s, err = b.startAPI(ctx)
	} else {
		for i := range b.idleOrganizations {
			order.Groups = append(order.Groups, fanGroup{Tokens: []string{fmt.Sprint("org_", i)}, Clients: share(b.idle, b.idleOrganizations, i)})
		}
		s, err = b.startNode()
	}
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	var before, after bool
	if t.base, before, err = s.atRest(ctx, b.settle, name == ours); err != nil {
		return t, err
	}
	if name == ours {
		if t.baseline, err = s.metric(ctx, "go_goroutines"); err != nil {
			return t, err
		}
	}
	order.Address = s.address
	crowd, err := connectCrowd(ctx, order)
	if err != nil {
		return t, s.failed(err)
	}
	defer func() { err = errors.Join(err, crowd.close()) }()
	t.took = crowd.joined.Took
	if t.full, after, err = s.atRest(ctx, b.settle, name == ours); err != nil {
		return t, err
	}
	t.settled = before && after
	if name == ours {
		if err := b.countSockets(ctx, s, &t); err != nil {
			return t, err
		}
	}
	_, err = crowd.checked(ctx, fanQuestion{}, 0)
	return t, err
}

// countSockets makes sure that all sockets are there, and asks how many goroutines the node has with them.
func (b *fanBench) countSockets(ctx context.Context, s *fanServer, t *idleTurn) error {
	samples, err := scrape(ctx, s.address)
	if err != nil {
		return err
	}
	if connected := samples["socketio_connected_clients"]; connected != float64(b.idle) {
		return fmt.Errorf("%.0f sockets are connected, not %d", connected, b.idle)
	}
	t.goroutines = samples["go_goroutines"]
	return nil
}

// metric is one sample of a node's Prometheus page.
func (s *fanServer) metric(ctx context.Context, name string) (float64, error) {
	samples, err := scrape(ctx, s.address)
	if err != nil {
		return 0, err
	}
	value, found := samples[name]
	if !found {
		return 0, fmt.Errorf("the metrics have no %s", name)
	}
	return value, nil
}

// atRest waits until a process's memory stays as it is, for one of ours also until it has collected its garbage once, and
// returns its resident bytes. Nothing is done to the process to that end, but that its metrics are read every second, as
// Prometheus would. Go collects after two minutes at the latest.
func (s *fanServer) atRest(ctx context.Context, settle time.Duration, ours bool) (bytes float64, settled bool, err error) {
	const steady, within = 10, 0.01 // so many seconds, up to this share
	collected := func() (float64, error) {
		if !ours {
			return 1, nil
		}
		return s.metric(ctx, "go_gc_duration_seconds_count")
	}
	var before float64
	if ours {
		if before, err = collected(); err != nil {
			return 0, false, err
		}
	}
	ticker := time.NewTicker(min(time.Second, settle/steady))
	defer ticker.Stop()
	var recent []float64
	for end := time.Now().Add(settle); time.Now().Before(end); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, false, ctx.Err()
		}
		now, err := collected()
		if err != nil {
			return 0, false, err
		}
		if bytes, err = s.rss(); err != nil {
			return 0, false, err
		}
		if recent = append(recent, bytes); len(recent) < steady {
			continue
		}
		recent = recent[len(recent)-steady:]
		lowest, highest := bounds(recent)
		if highest-lowest <= within*highest && now > before {
			return bytes, true, nil
		}
	}
	return bytes, false, nil
}

func bounds(values []float64) (lowest, highest float64) {
	lowest, highest = values[0], values[0]
	for _, v := range values {
		lowest, highest = min(lowest, v), max(highest, v)
	}
	return lowest, highest
}

// share is how many of n the i-th of so many gets.
func share(n, among, i int) int {
	if i < n%among {
		return n/among + 1
	}
	return n / among
}

// groups spreads clients evenly over organizations; each begins at its organization's head.
func (b *fanBench) groups(ctx context.Context, clients, organizations int) ([]fanGroup, error) {
	ids := make([]int64, organizations)
	for i := range ids {
		ids[i] = int64(firstUsual + i)
	}
	heads, err := b.store.Heads(ctx, ids)
	if err != nil {
		return nil, err
	}
	var groups []fanGroup
	for i, id := range ids {
		groups = append(groups, fanGroup{
			Tokens: b.tokens[id], Clients: share(clients, organizations, i), After: heads[id].Seq, Epoch: heads[id].Epoch, Stamped: true,
		})
	}
	return groups, nil
}
