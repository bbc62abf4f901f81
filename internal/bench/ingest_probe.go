package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"switchboard/internal/channel/waba"
)

// probe is what one message costs.
type probe struct {
	// RoundTrips is how often the product waits for PostgreSQL: from the webhook's arrival to the end of its processing.
	RoundTrips int
	Statements []string
	// The events that it made, for pgbench to write the same amount.
	MessageEvent, ChatEvent string
}

// probeMessage lets a product with one connection take in a few messages, so that its statements are prepared, and then
// watches one more: in a chat that the database knows, on a channel of which this process has never heard if firstOfChannel is
// set, else on one that it has just served.
func probeMessage(ctx context.Context, databaseURL string, firstOfChannel bool) (found probe, err error) {
	wire, throughURL, err := tap(databaseURL)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, wire.close()) }()
	// The sweeper's look at the tables is not part of a message.
	p, err := startProduct(ctx, productOptions{databaseURL: throughURL, connections: 1, sweep: time.Hour})
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	const warmUp = 3
	organization := 1
	for range warmUp {
		if err := p.takeOne(ctx, organization); err != nil {
			return found, err
		}
	}
	if firstOfChannel {
		organization = 2
	}
	wire.reset()
	if err := p.takeOne(ctx, organization); err != nil {
		return found, err
	}
	found.RoundTrips, found.Statements = wire.seen()
	found.Statements = slices.DeleteFunc(found.Statements, func(statement string) bool {
		if statement != pendingStatement && statement != livenessCheck {
			return false
		}
		found.RoundTrips--
		return true
	})
	const newest = "SELECT data FROM events WHERE organization_id = $1 AND name = $2 ORDER BY seq DESC LIMIT 1"
	err = p.store.SQL().QueryRowContext(ctx, newest, organization, "message:new").Scan(&found.MessageEvent)
	if err == nil {
		err = p.store.SQL().QueryRowContext(ctx, newest, organization, "chat:updated").Scan(&found.ChatEvent)
	}
	if err != nil {
		return found, fmt.Errorf("read the events of a message: %w", err)
	}
	return found, nil
}

const (
	// pendingStatement is how drained sees the end: takeOne's own, once or more often.
	pendingStatement = "SELECT EXISTS (SELECT 1 FROM webhook_deliveries)"
	// livenessCheck is the driver's question to a connection that was idle for more than a second. It depends on the time
	// between messages and not on what a message takes, and is told apart in docs/performance.md.
	livenessCheck = "-- ping"
)

// takeOne posts one message and waits until it is processed.
func (p *product) takeOne(ctx context.Context, organization int) error {
	body := webhookBody(organization, 1, newExternalID(rand.New(rand.NewPCG(rand.Uint64(), 0))), time.Now()) //nolint:gosec // an id, no secret
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+webhookPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set(waba.SignatureHeader, sign(organization, body))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("post a webhook: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		return fmt.Errorf("a webhook was answered with %s: %s", answer.Status, text)
	}
	return p.drained(ctx)
}
