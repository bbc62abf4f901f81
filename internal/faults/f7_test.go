package faults

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/testkit"
)

// F7: PostgreSQL killed, then stopped, under everything. What is not stored is not acknowledged: webhooks get an error, updates
// are not confirmed, and both come again. No socket notices, and after its return messages of all kinds are on the screens soon.
func TestFaultF7_PostgresAway(t *testing.T) {
	quick(t)
	clients, perSecond, outage := sized(40, 500), sized(20, 50), sized(3*time.Second, 30*time.Second)
	w := newWorld(t, plan{organizations: sized(4, 25), workers: 2, audited: true, linked: true})
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	d := w.drive(perSecond)
	d.more(perSecond)

	for _, fault := range []struct {
		name        string
		begin, over func()
	}{
		{"killed", w.postgres.Kill, w.postgres.Start},
		{"stopped", w.postgres.Pause, w.postgres.Resume},
	} {
		answered := w.answers(0)
		fault.begin()
		began := time.Now()
		w.requireRefusals(fault.name, answered.last, began)
		<-time.After(time.Until(began.Add(outage)))
		fault.over()
		back := time.Now()
		// A customer who writes now is on the screens within ten seconds; the simulator tries again at once.
		for _, customer := range w.orgs[0].oneOfEach() {
			err := poll(testkit.ContextFor(t, time.Minute), func(ctx context.Context) error { return w.reaches(ctx, h, w.orgs[0], customer) })
			took := time.Since(back)
			require.NoError(t, err)
			t.Logf("PostgreSQL %s for %s: messages by %s reach the screens %.2f s after its return", fault.name, outage,
				w.orgs[0].line(customer).kind, took.Seconds())
			require.Less(t, took, testkit.Slack(10*time.Second))
		}
		w.upSince(h, clients)
	}
	d.stop()
	w.verdict(h)
	w.upSince(h, clients)
	w.end(h, before)
}

// webhookAnswers is how the product answered webhooks.
type webhookAnswers struct {
	last   uint64      // the newest entry of the ledger
	status map[int]int // how many, by HTTP status; 0 is no answer
}

// answers sums up the webhooks behind an entry of the ledger.
func (w *world) answers(after uint64) webhookAnswers {
	w.t.Helper()
	var ledger struct {
		Entries []cloudapi.Entry `json:"entries"`
	}
	path := fmt.Sprintf("%s/control/ledger?kind=%s&limit=10000&after=%d", w.cloud, cloudapi.KindDelivery, after)
	require.NoError(w.t, request(testkit.Context(w.t), http.MethodGet, path, "", nil, &ledger))
	a := webhookAnswers{last: after, status: map[int]int{}}
	for _, e := range ledger.Entries {
		a.last = e.Seq
		a.status[e.Delivery.HTTPStatus]++
	}
	return a
}

// requireRefusals waits until webhooks were refused because PostgreSQL is away: by an error when it is gone. When it stands still,
// nobody knows yet, and there is no answer.
func (w *world) requireRefusals(what string, after uint64, began time.Time) {
	w.t.Helper()
	if what != "killed" {
		return
	}
	testkit.EventuallyNoError(w.t, "webhooks to be refused", func(context.Context) error {
		a := w.answers(after)
		for status := range a.status {
			if status >= http.StatusInternalServerError {
				w.t.Logf("PostgreSQL %s: webhooks are answered, by status, %v within %.2f s", what, a.status, time.Since(began).Seconds())
				return nil
			}
		}
		return fmt.Errorf("they are answered, by status, %v", a.status)
	})
}
