package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Check says whether a part works. It must return soon after its context ends. Its error is for the log alone: whoever
// asks /readyz, which is anybody, sees only what kind of failure it is.
type Check func(ctx context.Context) error

// Health answers whether the process is alive and whether it can serve.
type Health struct {
	mu       sync.Mutex // guards what follows
	checks   map[string]*part
	draining bool
	logger   *slog.Logger
}

type part struct {
	check    Check
	timeout  time.Duration
	optional bool

	mu      sync.Mutex    // guards what follows
	running chan struct{} // closed when the run under way ends; nil if there is none
	last    error
	logged  string // what the log was told last; empty: that it is up
}

// NewHealth returns a Health without checks: ready. It logs nothing.
func NewHealth() *Health {
	return &Health{checks: map[string]*part{}, logger: slog.New(slog.DiscardHandler)}
}

// LogTo has the checks' errors written to logger: once when a part goes down or fails in another way, however often it
// is asked, and once when it is up again.
func (h *Health) LogTo(logger *slog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logger = logger
}

// Register adds a part without which the process cannot serve. A check that takes longer than timeout counts as down.
func (h *Health) Register(name string, timeout time.Duration, check Check) {
	h.register(name, &part{check: check, timeout: timeout})
}

// RegisterOptional adds a part without which the process serves all the same, only slower: it is shown, and does not
// change the answer. Redis is one: taking all API nodes out of the balancer would make its outage everybody's.
func (h *Health) RegisterOptional(name string, timeout time.Duration, check Check) {
	h.register(name, &part{check: check, timeout: timeout, optional: true})
}

func (h *Health) register(name string, p *part) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[name] = p
}

// Drain makes Ready answer 503 from now on, so that balancers send no more, while what is open goes on.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
}

// CheckResult is the state of one part.
type CheckResult struct {
	Status string `json:"status"`          // up, down, or degraded for an optional part that is down
	Error  string `json:"error,omitempty"` // connection refused, no answer in time or not available
}

// Report is the answer of Ready. Status is ok, unavailable or draining.
type Report struct {
	Status string                 `json:"status"`
	Checks map[string]CheckResult `json:"checks,omitempty"`
}

// Report runs all checks in parallel and returns within the longest of their timeouts.
func (h *Health) Report(ctx context.Context) Report {
	h.mu.Lock()
	parts := make(map[string]*part, len(h.checks))
	for name, p := range h.checks {
		parts[name] = p
	}
	draining, logger := h.draining, h.logger
	h.mu.Unlock()

	var wg sync.WaitGroup
	var mu sync.Mutex // guards report.Checks
	report := Report{Status: "ok", Checks: make(map[string]CheckResult, len(parts))}
	for name, p := range parts {
		wg.Go(func() {
			result := p.result(ctx, logger.With(slog.String("part", name)))
			mu.Lock()
			defer mu.Unlock()
			report.Checks[name] = result
		})
	}
	wg.Wait()
	for _, c := range report.Checks {
		if c.Status == "down" {
			report.Status = "unavailable"
		}
	}
	if draining {
		report.Status = "draining"
	}
	return report
}

func (p *part) result(ctx context.Context, logger *slog.Logger) CheckResult {
	err := p.run(ctx)
	word := publicWord(err)
	if ctx.Err() == nil { // else it is the caller who did not wait, which says nothing of the part
		p.log(logger, word, err)
	}
	switch {
	case err == nil:
		return CheckResult{Status: "up"}
	case p.optional:
		return CheckResult{Status: "degraded", Error: word}
	default:
		return CheckResult{Status: "down", Error: word}
	}
}

// publicWord says of an error what everybody may know: no names, no addresses. It is empty for nil.
func publicWord(err error) string {
	var network net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	default:
		return "not available"
	}
}

// log tells the log what changed since it was told last.
func (p *part) log(logger *slog.Logger, word string, err error) {
	p.mu.Lock()
	changed := p.logged != word
	p.logged = word
	p.mu.Unlock()
	switch {
	case !changed:
	case err == nil:
		logger.Info("a part that was down is up again")
	default:
		logger.Warn("a part is down", slog.Bool("optional", p.optional), slog.Any("error", err))
	}
}

// run waits for the check's result, but no longer than its timeout. At most one run of a check is under way, whatever
// the number of callers, so that a check that ignores its context costs one goroutine and not one for each probe.
func (p *part) run(ctx context.Context) error {
	p.mu.Lock()
	if p.running == nil {
		done := make(chan struct{})
		p.running = done
		// The run serves every caller that joins it, so it must not end with the first one's request.
		checkCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout)
		go func() {
			defer cancel()
			err := safely(checkCtx, p.check)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.last, p.running = err, nil
			close(done)
		}()
	}
	running := p.running
	p.mu.Unlock()

	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case <-running:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.last
	case <-timer.C:
		return timeoutError(p.timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

type timeoutError time.Duration

func (e timeoutError) Error() string { return "no answer within " + time.Duration(e).String() }

func (timeoutError) Unwrap() error { return context.DeadlineExceeded }

type panicError struct{}

func (panicError) Error() string { return "the check failed unexpectedly" }

func safely(ctx context.Context, check Check) (err error) {
	defer func() {
		if recover() != nil {
			err = panicError{}
		}
	}()
	return check(ctx)
}

// Live serves /healthz: the process runs and answers. It checks nothing else, since a restart mends nothing else.
func (h *Health) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, Report{Status: "ok"})
	})
}

// Ready serves /readyz: 200 if every required check passes, else 503 with the names of those that do not.
func (h *Health) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := h.Report(r.Context())
		status := http.StatusOK
		if report.Status != "ok" {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, report)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone: nobody is left to tell
}
