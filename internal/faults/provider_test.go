package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// pollGone is the outcome of a telegram.LongPoll whose caller hung up.
const pollGone = "gone"

// delivery is a call that sends a message, as its provider saw it.
type delivery struct {
	line   string // line.key
	to     string // the customer
	text   string
	worker string
	began  time.Time
	// effect says that the customer got it, whatever the caller was told.
	effect bool
	told   bool
	id     string // the provider's, but not on Telegram
}

// deliveries are all sends of all workers, at each provider in the order of their effects.
func (w *world) deliveries(ctx context.Context) ([]delivery, error) {
	const most = 10_000 // that the ledgers answer at once
	var cloud struct {
		Entries []cloudapi.Entry `json:"entries"`
	}
	err := request(ctx, http.MethodGet, fmt.Sprintf("%s/control/ledger?kind=%s&limit=%d", w.cloud, cloudapi.KindSend, most), "", nil, &cloud)
	if err != nil {
		return nil, err
	}
	var bots struct {
		Entries []telegram.Entry `json:"entries"`
	}
	err = request(ctx, http.MethodGet, fmt.Sprintf("%s/control/ledger?kind=%s&limit=%d", w.telegram, telegram.KindSend, most), "", nil, &bots)
	if err != nil {
		return nil, err
	}
	if len(cloud.Entries) == most || len(bots.Entries) == most {
		return nil, fmt.Errorf("the ledgers have more than %d sends", most)
	}
	var all []delivery
	for _, e := range cloud.Entries {
		var body struct {
			Text struct {
				Body string `json:"body"`
			} `json:"text"`
		}
		if err := json.Unmarshal(e.Send.Body, &body); err != nil {
			return nil, fmt.Errorf("read a send to the Cloud API: %w", err)
		}
		all = append(all, delivery{
			line: e.PhoneNumberID, to: e.Send.To, text: body.Text.Body, worker: w.callerAt(e.Send.Host), began: e.Send.Began,
			effect: e.Send.Accepted, told: e.Send.Told, id: e.Send.ID,
		})
	}
	for _, e := range bots.Entries {
		var args struct {
			Text string `json:"text"`
		}
		if err := json.Unmarshal(e.Send.Args, &args); err != nil {
			return nil, fmt.Errorf("read a send to Telegram: %w", err)
		}
		all = append(all, delivery{
			line: strconv.FormatInt(e.Bot, 10), to: strconv.FormatInt(e.Send.ChatID, 10), text: args.Text,
			worker: w.callerAt(e.Send.Host), began: e.Send.Began,
			effect: e.Send.Outcome == telegram.OutcomeAccepted || e.Send.Outcome == telegram.OutcomeUntold,
			told:   e.Send.Outcome == telegram.OutcomeAccepted,
		})
	}
	return w.linkedDeliveries(ctx, all)
}

// callerAt tells the worker by the address by which it reaches a provider.
func (w *world) callerAt(host string) string {
	for _, x := range w.everyWorker {
		if host == x.cloud.Addr() || host == x.telegram.Addr() {
			return x.name
		}
	}
	return "nobody at " + host
}

// polls are all polls of a bot, or of all bots for 0, that began after the one with a number; and where two met.
func (w *world) polls(ctx context.Context, bot int64, after uint64) (polls []telegram.LongPoll, overlaps []telegram.Overlap, err error) {
	var answer struct {
		Polls    []telegram.LongPoll `json:"polls"`
		Overlaps []telegram.Overlap  `json:"overlaps"`
	}
	err = request(ctx, http.MethodGet, fmt.Sprintf("%s/control/ledger/polls?bot=%d&after=%d", w.telegram, bot, after), "", nil, &answer)
	return answer.Polls, answer.Overlaps, err
}

// arrivals are the first polls, calls of the Cloud API and logins to WhatsApp that others than one worker made for each line after a moment.
type arrivals struct {
	w     *world
	other *worker
	after time.Time
	first map[string]time.Time // by line.key
	poll  uint64               // the newest one that was before the moment
}

// look asks the ledgers.
func (a *arrivals) look(ctx context.Context) error {
	w := a.w
	note := func(line, caller string, at time.Time) {
		if have, found := a.first[line]; at.After(a.after) && caller != a.other.name && (!found || at.Before(have)) {
			a.first[line] = at
		}
	}
	polls, _, err := w.polls(ctx, 0, a.poll)
	if err != nil {
		return err
	}
	for _, p := range polls {
		if !p.Start.After(a.after) {
			a.poll = max(a.poll, p.Seq)
		}
		note(strconv.FormatInt(p.Bot, 10), w.callerAt(p.Host), p.Start)
	}
	var cloud struct {
		Entries []cloudapi.Entry `json:"entries"`
	}
	if err := request(ctx, http.MethodGet, w.cloud+"/control/ledger?kind="+cloudapi.KindCall+"&limit=1000", "", nil, &cloud); err != nil {
		return err
	}
	for _, e := range cloud.Entries {
		note(e.PhoneNumberID, w.callerAt(e.Call.Host), e.Call.Began)
	}
	sessions, _, err := w.sessions(ctx)
	for _, s := range sessions {
		note(s.Number, s.worker, s.LoggedInAt)
	}
	return err
}

// updates are the lives of a bot's updates.
func (w *world) updates(ctx context.Context, bot int64) ([]telegram.Update, error) {
	var updates []telegram.Update
	err := request(ctx, http.MethodGet, fmt.Sprintf("%s/control/ledger/updates?bot=%d", w.telegram, bot), "", nil, &updates)
	return updates, err
}

// awaitUpdate waits until the update of a customer's message was given to workers so often and, if wanted, is confirmed.
func (w *world) awaitUpdate(e entry, times int, confirmed bool) telegram.Update {
	w.t.Helper()
	var u telegram.Update
	testkit.EventuallyNoError(w.t, "Telegram to hand out "+e.canary(), func(ctx context.Context) error {
		updates, err := w.updates(ctx, e.organization.telegram.bot.ID)
		for _, u = range updates {
			if u.ID == e.update && u.Deliveries >= times && (u.Confirmed() || !confirmed) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("update %d was not handed out %d times", e.update, times))
	})
	return u
}

// fault is a simulator's fault that is set.
type fault struct {
	w   *world
	url string // of the simulator
	id  string
}

// setFault makes something go wrong at a provider; spec is a Fault of a simulator.
func (w *world) setFault(spec any) fault {
	w.t.Helper()
	f := fault{w: w, url: w.cloud}
	switch spec.(type) {
	case telegram.Fault:
		f.url = w.telegram
	case whatsapp.Fault:
		f.url = w.whatsapp
	}
	var made struct {
		ID string `json:"id"`
	}
	require.NoError(w.t, request(testkit.Context(w.t), http.MethodPost, f.url+"/control/faults", "", spec, &made))
	f.id = made.ID
	return f
}

// struck waits until the fault has met a call.
func (f fault) struck() {
	f.w.t.Helper()
	testkit.EventuallyNoError(f.w.t, "the fault to strike", func(ctx context.Context) error {
		var all []struct {
			ID   string `json:"id"`
			Used int    `json:"used"`
		}
		if err := request(ctx, http.MethodGet, f.url+"/control/faults", "", nil, &all); err != nil {
			return err
		}
		for _, have := range all {
			if have.ID == f.id && have.Used > 0 {
				return nil
			}
		}
		return fmt.Errorf("it has not struck: %+v", all)
	})
}

// clear ends the fault and lets the calls go on that hang on it.
func (f fault) clear() {
	f.w.t.Helper()
	require.NoError(f.w.t, request(testkit.Context(f.w.t), http.MethodDelete, f.url+"/control/faults/"+f.id, "", nil, nil))
}

// isCanary tells texts of the driver from others.
func isCanary(text string) bool { return strings.HasPrefix(text, canaryPrefix) }
