package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
)

// Of the Cloud API's side of reply.
const (
	replyNumbers   = 20
	replyCustomers = 10 // of each number
)

// replyTimes measures how long a reply takes from its POST to the provider's door, with the worker idle.
func (b *workersBench) replyTimes(ctx context.Context, out io.Writer) (err error) {
	_, _ = fmt.Fprintf(out, "reply: %d replies for each provider, one after the other; from the POST to the call at the provider\n\n", b.replies)
	h, err := b.newHouse(ctx, b.bots)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := errors.Join(h.addBots(ctx), h.addNumbers(ctx)); err != nil {
		return err
	}
	w, err := h.startWorker(ctx, "worker", "127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	if err := h.connected(ctx); err != nil {
		return err
	}
	if err := h.write(0, h.chatCount()); err != nil {
		return err
	}
	customers := 0
	for i, number := range h.numbers {
		for c := range replyCustomers {
			phone := strconv.Itoa(49_170_000_000 + 100*i + c)
			if _, err := h.cloud.CustomerSend(number.PhoneNumberID, phone, cloudapi.Incoming{Type: "text", Text: "Hello"}); err != nil {
				return err
			}
			customers++
		}
	}
	if err := h.until(ctx, "the chats", "SELECT COUNT(*) FROM chats", h.chatCount()+customers); err != nil {
		return err
	}
	return h.replyTable(ctx, out)
}

// replyTable prints how long replies took. Beside them are bare commits of a single row, made between the replies: a
// reply waits for two of its own.
func (h *house) replyTable(ctx context.Context, out io.Writer) error {
	if _, err := h.db.ExecContext(ctx, "CREATE TABLE reply_probe (n BIGINT)"); err != nil {
		return fmt.Errorf("make the probe's table: %w", err)
	}
	t := newTable(out, "to", "p50 ms", "p99 ms", "max ms")
	row := func(name string, took []time.Duration) (p99 time.Duration) {
		slices.Sort(took)
		p99 = percentile(took, 0.99)
		cells := []string{name}
		for _, d := range []time.Duration{percentile(took, 0.5), p99, took[len(took)-1]} {
			cells = append(cells, fmt.Sprintf("%.1f", milliseconds(d)))
		}
		t.row(cells...)
		return p99
	}
	var worst time.Duration
	var commits []time.Duration
	for _, kind := range []string{"telegram", "waba"} {
		took, bare, err := h.replies(ctx, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		worst, commits = max(worst, row(kind, took)), append(commits, bare...)
	}
	commit := row("(a bare commit)", commits)
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	goal(out, "a reply leaves, p99", milliseconds(worst), " ms", milliseconds(replyGoal), tooBusy(commit))
	return nil
}

const replyGoal = 20 * time.Millisecond

// tooBusy says that the two commits of a reply alone leave it no time; empty if they do.
func tooBusy(commit time.Duration) string {
	if 2*commit < replyGoal {
		return ""
	}
	return fmt.Sprintf("of the machine's bare commits 1 in 100 takes %.1f ms", milliseconds(commit))
}

// addNumbers opens channels at the Cloud API.
func (h *house) addNumbers(ctx context.Context) error {
	for i := range replyNumbers {
		n := cloudapi.Number{
			PhoneNumberID: strconv.Itoa(900_000 + i), VerifiedName: "Shop", AccessToken: fmt.Sprint("token-", i), AppSecret: fmt.Sprint("secret-", i),
			VerifyToken: "verify", WebhookURL: "http://" + h.api.address + webhookPath, AutoStatuses: []string{},
		}
		if err := h.cloud.AddNumber(n); err != nil {
			return err
		}
		h.numbers = append(h.numbers, n)
		err := h.call(ctx, h.admins[i%len(h.admins)], http.MethodPost, "/api/channels", map[string]any{
			"kind": "waba", "name": "Shop", "config": map[string]any{
				"phoneNumberId": n.PhoneNumberID, "accessToken": n.AccessToken, "appSecret": n.AppSecret, "verifyToken": n.VerifyToken,
			},
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// replies answers in every chat of a kind in turn. It returns how long each answer took to its provider, and as many bare
// commits.
func (h *house) replies(ctx context.Context, kind string) (took, commits []time.Duration, err error) {
	chats, err := h.chats(ctx, kind)
	if err != nil {
		return nil, nil, err
	}
	for i := range h.b.replies {
		c := chats[i%len(chats)]
		text := fmt.Sprintf("reply-%s-%d;", kind, i)
		began := time.Now()
		err := h.call(ctx, c.token, http.MethodPost, "/api/messages/send", map[string]any{"chatId": c.id, "content": text}, nil)
		if err != nil {
			return nil, nil, err
		}
		came, err := h.came(ctx, kind, text)
		if err != nil {
			return nil, nil, err
		}
		took = append(took, came.Sub(began))
		// The worker shall be idle again: the answer is written after the call.
		if err := h.until(ctx, "the end of the send", "SELECT COUNT(*) FROM messages WHERE status IN ('queued', 'sending')", 0); err != nil {
			return nil, nil, err
		}
		began = time.Now()
		if _, err := h.db.ExecContext(ctx, "INSERT INTO reply_probe VALUES ($1)", i); err != nil {
			return nil, nil, fmt.Errorf("probe: %w", err)
		}
		commits = append(commits, time.Since(began))
	}
	return took, commits, nil
}

type replyChat struct {
	id    int64
	token string
}

func (h *house) chats(ctx context.Context, kind string) (all []replyChat, err error) {
	rows, err := h.db.QueryContext(ctx, "SELECT id, organization_id FROM chats WHERE channel_kind = $1 ORDER BY peer, id", kind)
	if err != nil {
		return nil, fmt.Errorf("list the chats: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id, organization int64
		if err := rows.Scan(&id, &organization); err != nil {
			return nil, err
		}
		all = append(all, replyChat{id: id, token: h.admins[organization-1]})
	}
	if len(all) == 0 {
		return nil, errors.Join(sql.ErrNoRows, rows.Err())
	}
	return all, rows.Err()
}

// came waits for the call with a text and returns when it came.
func (h *house) came(ctx context.Context, kind, text string) (at time.Time, err error) {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if kind == "telegram" {
		err = h.telegram.Ledger().Wait(ctx, func(l *telegram.Ledger) bool {
			sends := l.Sends(0)
			for _, s := range slices.Backward(sends[max(0, len(sends)-5):]) {
				if strings.Contains(string(s.Args), text) {
					at = s.Began
				}
			}
			return !at.IsZero()
		})
	} else {
		err = h.cloud.Ledger().Wait(ctx, func(l *cloudapi.Ledger) bool {
			sends := l.Sends("")
			for _, s := range slices.Backward(sends[max(0, len(sends)-5):]) {
				if strings.Contains(string(s.Body), text) {
					at = s.Began
				}
			}
			return !at.IsZero()
		})
	}
	if err != nil {
		return at, fmt.Errorf("the reply did not come: %w", err)
	}
	return at, nil
}
