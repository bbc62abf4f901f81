package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// web makes every request on a connection of its own: none is left idle in a node.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 15 * time.Second}

// rest calls the REST API through the balancer as the organization's admin. into may be nil.
func (w *world) rest(ctx context.Context, o *organization, method, path string, body, into any) error {
	return request(ctx, method, w.balancer.URL()+path, o.token, body, into)
}

// control acts on the simulator of the Cloud API.
func (w *world) control(ctx context.Context, path string, body any) error {
	return request(ctx, http.MethodPost, w.cloud+path, "", body, nil)
}

// request sends JSON and decodes the answer; *[]byte takes it as it is. An answer that is no success is an error.
func request(ctx context.Context, method, url, token string, body, into any) error {
	var reader io.Reader
	if raw, is := body.([]byte); is {
		reader = bytes.NewReader(raw)
	} else if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return &answerError{resp.StatusCode, fmt.Sprintf("%s %s: %d %s", method, url, resp.StatusCode, answer)}
	case into == nil:
		return nil
	}
	if raw, is := into.(*[]byte); is {
		*raw = answer
		return nil
	}
	return json.Unmarshal(answer, into)
}

// answerError is an answer that is no success.
type answerError struct {
	status int
	text   string
}

func (e *answerError) Error() string { return e.text }

func status(url string) int {
	resp, err := web.Get(url) //nolint:noctx // the client has a time limit
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// query runs a query on the installation's database, on a connection of its own, and scans every row.
func (w *world) query(ctx context.Context, sql string, args []any, scan func(pgx.Rows) error) error {
	return query(ctx, w.postgres.URL(databaseName), sql, args, scan)
}

func query(ctx context.Context, url, sql string, args []any, scan func(pgx.Rows) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// poll calls try until it succeeds, and gives up with its last error when the context ends.
func poll(ctx context.Context, try func(context.Context) error) error {
	return pollEvery(ctx, 20*time.Millisecond, try)
}

func pollEvery(ctx context.Context, interval time.Duration, try func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
