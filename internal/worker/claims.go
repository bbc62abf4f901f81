package worker

import (
	"context"
	"slices"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// bulkPlaces is how many of a channel's places bulk may take: the others are
// free for what is said to one customer, however long a bulk send takes.
func bulkPlaces(places int) int { return max(places-max(places/4, 1), 1) }

// claimSends claims messages as far as there is room and the provider lets them
// through. What has to wait is not claimed: it stays queued, takes no place, and
// a crash leaves it as it is.
func (d *dispatcher) claimSends(ctx context.Context, room int) (claimed int, err error) {
	if d.s.residue.lostClaim || len(d.s.residue.unsettled) >= maxUnsettled {
		return 0, nil // mend comes first, and looks again
	}
	for claimed < room && ctx.Err() == nil {
		n, more, err := d.claimSome(ctx, room-claimed)
		claimed += n
		if err != nil || !more {
			return claimed, err
		}
	}
	return claimed, nil
}

// claimSome makes one claim. more tells that another may bring more.
func (d *dispatcher) claimSome(ctx context.Context, room int) (n int, more bool, err error) {
	pace := d.pace()
	if room = min(room, pace.Room); room <= 0 {
		return 0, false, nil // it looks again in time
	}
	claim := store.SendClaim{
		Limit: room, Bulk: min(room, max(bulkPlaces(d.s.w.o.Parallel)-d.bulk, 0)), Passed: d.passedChats(pace.Waiting),
	}
	if d.resend != nil {
		claim.NewExternalID = d.resend.NewExternalID
	}
	call, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	if !d.backlog { // most looks find nothing, and a claim that does costs a commit
		due, err := d.s.w.o.Store.SendsDue(call, d.lease.ChannelID, claim.Passed, claim.Bulk > 0)
		if err != nil {
			return 0, false, err
		}
		d.wakeBy(d.wallTime(due.Next))
		if !due.Now {
			return 0, false, nil
		}
	}
	claimed, err := d.s.w.o.Inbox.ClaimSends(call, d.org, d.lease, claim)
	if err == nil && d.s.w.loseClaim != nil {
		err = d.s.w.loseClaim(claimed.Messages)
	}
	unseen := d.backlog
	d.backlog = err == nil && claimed.More
	if err != nil {
		d.claimLost(err)
		return 0, false, err
	}
	for _, out := range claimed.Messages {
		if d.pacer != nil {
			d.pacer.Sending(time.Now(), out)
		}
		t := task{lane: sends, id: out.Message.ID, chat: out.Message.ChatID, bulk: out.Bulk}
		d.start(t, func(t *task) { t.pause, t.unsettled = d.send(ctx, out) })
	}
	// Where a claim was made unseen and found nothing, a look tells what is next.
	return len(claimed.Messages), claimed.More || unseen && len(claimed.Messages) == 0, nil
}

// passedChats are the chats to which no message may go now: something is under
// way for them, the outcome of their last message is not settled, or the
// provider wants nothing for them.
func (d *dispatcher) passedChats(waiting []int64) []int64 {
	ids := append(d.busyChats(), waiting...)
	for _, u := range d.s.residue.unsettled {
		ids = append(ids, u.chat)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// wallTime turns a time of the store's clock into one of the loop's.
func (d *dispatcher) wallTime(at domain.Time) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(at-d.s.w.o.Store.Now()) * time.Millisecond)
}

// claimCommands takes up commands. Those that the provider counts wait as
// messages do.
func (d *dispatcher) claimCommands(ctx context.Context, room int) (int, error) {
	if time.Now().Before(d.s.paused) {
		d.wakeBy(d.s.paused)
		return 0, nil
	}
	pace := d.pace()
	search := store.CommandSearch{
		ChannelID: d.lease.ChannelID, Limit: room, Busy: d.busyChats(), OnlyReads: pace.Room <= 0, Waiting: pace.Waiting,
	}
	if pace.Room > 0 {
		search.Limit = min(room, pace.Room)
	}
	call, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	due, err := d.s.w.o.Store.DueCommands(call, search)
	if err != nil {
		return 0, err
	}
	for _, c := range due {
		if d.pacer != nil {
			d.pacer.Doing(time.Now(), c.Command)
		}
		d.start(task{lane: commands, id: c.ID, chat: c.ChatID}, func(t *task) { t.pause = d.do(ctx, c) })
	}
	return len(due), nil
}
