package webhook

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"switchboard/internal/channel/waba"
	"switchboard/internal/inbox"
	"switchboard/internal/store"
)

const (
	// workers process at the same time; a channel's webhooks stay with one.
	workers = 8
	// queueLength bounds what waits in memory for each worker. What does not
	// fit stays in the database, for the sweeper.
	queueLength = 256
	// queueWait is how long a sender waits for room in a full queue. Providers
	// give up much later, and a claim lasts longer.
	queueWait = 3 * time.Second
	// batch is the most deliveries that share a transaction.
	batch = 32
	// sweepLimit is the most deliveries that one sweep takes.
	sweepLimit = 100
	// lastAttempt is the claim at which items that fail for an unknown reason
	// are set aside.
	lastAttempt = 5
	// patience is how long a database that is away is waited for.
	patience = 15 * time.Second
	// retryPause is the first pause after a failure; it doubles.
	retryPause = 100 * time.Millisecond
)

// job is a committed delivery.
type job struct {
	id       int64
	channels []int64
	body     []byte
	attempts int // claims by a sweeper
}

// running is the life of an Intake's goroutines.
type running struct {
	mu     sync.Mutex // guards cancel and done
	cancel context.CancelFunc
	done   chan struct{}
}

// Start begins the work behind the handlers. It may be called once until Stop.
func (in *Intake) Start(ctx context.Context) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.cancel != nil {
		return
	}
	ctx, in.cancel = context.WithCancel(context.WithoutCancel(ctx))
	in.done = make(chan struct{})
	var wg sync.WaitGroup
	for _, queue := range in.queues {
		wg.Go(func() { in.work(ctx, queue) })
	}
	wg.Go(func() { in.sweep(ctx) })
	wg.Go(func() { in.keep(ctx) })
	done := in.done
	go func() { wg.Wait(); close(done) }()
}

// Stop ends the work and waits for it. What is still queued stays in the
// database, free for other nodes to take.
func (in *Intake) Stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.cancel == nil {
		return
	}
	in.cancel()
	<-in.done
	in.release()
	in.cancel = nil
}

// enqueue hands a job to its channel's worker. When the queue is full the sender
// waits for its answer, which slows it down to what is processed; a job that finds no
// room within queueWait is left to the sweeper.
func (in *Intake) enqueue(ctx context.Context, j job) {
	queue := in.queues[j.channels[0]%workers]
	select {
	case queue <- j:
		return
	default:
	}
	timer := time.NewTimer(queueWait)
	defer timer.Stop()
	select {
	case queue <- j:
		return
	case <-timer.C:
	case <-ctx.Done(): // the sender went away; the delivery is committed all the same
	}
	in.claims.drop(j)
	in.options.Logger.WarnContext(ctx, "webhook queue is full; a delivery waits for the sweeper", slog.Int64("delivery", j.id))
}

func (in *Intake) work(ctx context.Context, queue <-chan job) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-queue:
			in.process(ctx, gather(first, queue))
		}
	}
}

// gather takes what is queued already: a burst shares transactions.
func gather(first job, queue <-chan job) []job {
	jobs := []job{first}
	for len(jobs) < batch {
		select {
		case next := <-queue:
			jobs = append(jobs, next)
		default:
			return jobs
		}
	}
	return jobs
}

// process stores the content of deliveries. While the database is away it tries
// again for a while, since they are this node's; any other failure leaves them to
// the sweeper, since those behind them must not wait.
func (in *Intake) process(ctx context.Context, jobs []job) {
	defer in.claims.drop(jobs...)
	deadline := time.Now().Add(patience)
	for pause := retryPause; ; pause *= 2 {
		err := in.store(ctx, jobs)
		if err == nil {
			return
		}
		if ctx.Err() != nil || !store.IsUnavailable(err) || time.Now().Add(pause).After(deadline) {
			in.leave(ctx, jobs, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (in *Intake) store(ctx context.Context, jobs []job) error {
	webhooks, err := in.read(ctx, jobs)
	if err != nil {
		return err
	}
	return in.options.Inbox.ReceiveWebhooks(ctx, webhooks)
}

// leave leaves deliveries to a sweeper: their claim runs out.
func (in *Intake) leave(ctx context.Context, jobs []job, cause error) {
	in.options.Logger.WarnContext(ctx, "webhooks are left to the sweeper", slog.Int("deliveries", len(jobs)), slog.Any("error", cause))
	ids := make([]int64, len(jobs))
	for i, j := range jobs {
		ids[i] = j.id
	}
	if err := in.options.Inbox.NoteFailure(ctx, ids, cause); err != nil && ctx.Err() == nil {
		in.options.Logger.DebugContext(ctx, "reason of a failure not kept", slog.Any("error", err))
	}
}

// read turns deliveries into items, of the channels that signed them only.
func (in *Intake) read(ctx context.Context, jobs []job) ([]inbox.Webhook, error) {
	webhooks := make([]inbox.Webhook, 0, len(jobs))
	for _, j := range jobs {
		webhook := inbox.Webhook{DeliveryID: j.id, LastTry: j.attempts >= lastAttempt}
		delivery, err := waba.Parse(j.body)
		if err != nil {
			webhook.Items = []inbox.WebhookItem{{ChannelID: j.channels[0], Raw: j.body, Poison: err}}
			webhooks = append(webhooks, webhook)
			continue
		}
		for _, skipped := range delivery.Skipped {
			in.options.Logger.DebugContext(ctx, "part of a webhook left out", slog.String("what", skipped.What))
		}
		owners, err := in.owners(ctx, j, delivery)
		if err != nil {
			return nil, err
		}
		for _, item := range delivery.Items {
			channelID, signed := owners[item.PhoneNumberID]
			if item.PhoneNumberID == "" {
				channelID, signed = j.channels[0], true // poison of which not even the number can be told
			}
			if !signed {
				continue
			}
			webhook.Items = append(webhook.Items, inbox.WebhookItem{
				ChannelID: channelID, Inbound: item.Inbound, Raw: item.Raw, Poison: item.Poison,
			})
		}
		webhooks = append(webhooks, webhook)
	}
	return webhooks, nil
}

// owners maps a delivery's numbers to the channels whose signature it carries.
func (in *Intake) owners(ctx context.Context, j job, delivery waba.Delivery) (map[string]int64, error) {
	var numbers []string
	seen := map[string]bool{}
	for _, item := range delivery.Items {
		if item.PhoneNumberID != "" && !seen[item.PhoneNumberID] {
			seen[item.PhoneNumberID] = true
			numbers = append(numbers, item.PhoneNumberID)
		}
	}
	owners := map[string]int64{}
	if len(numbers) == 0 {
		return owners, nil
	}
	sources, err := in.options.Sources(ctx, numbers)
	if err != nil {
		return nil, err
	}
	signed := map[int64]bool{}
	for _, id := range j.channels {
		signed[id] = true
	}
	for _, source := range sources {
		if signed[source.ChannelID] {
			owners[source.PhoneNumberID] = source.ChannelID
		}
	}
	for _, number := range numbers {
		if _, ok := owners[number]; !ok {
			in.options.Logger.WarnContext(ctx, "webhook items for a number that the signature does not speak for were left out", slog.Int64("delivery", j.id))
		}
	}
	return owners, nil
}

// sweep takes up deliveries that nobody works on any more, and does the
// inbox's background work.
func (in *Intake) sweep(ctx context.Context) {
	ticker := time.NewTicker(in.options.Sweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := in.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			in.options.Logger.WarnContext(ctx, "sweep of webhooks failed; it will be tried again", slog.Any("error", err))
		}
	}
}

// sweepJobs stores each delivery by itself: what has failed before must not take
// others along.
func (in *Intake) sweepJobs(ctx context.Context, jobs []job) error {
	for i, j := range jobs {
		err := in.store(ctx, []job{j})
		if err == nil {
			in.claims.drop(j)
			continue
		}
		in.leave(ctx, []job{j}, err)
		if ctx.Err() != nil {
			return err // Stop gives them back
		}
		in.claims.drop(j)
		if store.IsUnavailable(err) {
			in.claims.drop(jobs[i:]...)
			return err
		}
	}
	return nil
}

func (in *Intake) sweepOnce(ctx context.Context) error {
	for {
		left, err := in.options.Inbox.ClaimWebhooks(ctx, sweepLimit, in.options.Claim)
		if err != nil {
			return err
		}
		jobs := make([]job, 0, len(left))
		for _, d := range left {
			in.claims.add(d.ID)
			jobs = append(jobs, job{id: d.ID, channels: d.ChannelIDs, body: d.Body, attempts: d.Attempts})
		}
		if err := in.sweepJobs(ctx, jobs); err != nil {
			return err
		}
		if len(left) < sweepLimit {
			break
		}
	}
	pending, err := in.options.Inbox.PendingWebhooks(ctx)
	if err != nil {
		return err
	}
	in.options.Pending(pending)
	return in.options.Inbox.Reconcile(ctx)
}
