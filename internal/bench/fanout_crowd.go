package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// crowd is the load process as the benchmark sees it.
type crowd struct {
	process *child
	order   *json.Encoder
	reports chan fanReport // closed when the process has ended; the newest progress only
	done    chan error

	joined   fanJoined
	progress fanProgress
}

// connectCrowd starts a load process and waits until all its clients are connected.
func connectCrowd(ctx context.Context, order fanOrder) (*crowd, error) {
	clients := 0
	for _, g := range order.Groups {
		clients += g.Clients
	}
	if err := needFiles(clients); err != nil {
		return nil, err
	}
	process, err := startSelf("load", nil, fanLoadCommand)
	if err != nil {
		return nil, err
	}
	c := &crowd{process: process, order: json.NewEncoder(process.in), reports: make(chan fanReport, 1), done: make(chan error, 1)}
	go c.read()
	if err := c.order.Encode(order); err != nil {
		return nil, errors.Join(process.failed(err), c.close())
	}
	for c.joined.Clients == 0 {
		if err := c.next(ctx); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// read takes reports. Of the progress only the newest waits for the benchmark; the rest waits in the order of its arrival.
func (c *crowd) read() {
	defer close(c.reports)
	lines := json.NewDecoder(c.process.lines)
	for {
		var report fanReport
		if err := lines.Decode(&report); err != nil {
			c.done <- err
			return
		}
		if report.Progress != nil {
			select {
			case old := <-c.reports:
				if old.Progress == nil {
					c.reports <- old
				}
			default:
			}
		}
		c.reports <- report
	}
}

// next waits for a report and takes it in.
func (c *crowd) next(ctx context.Context) error {
	_, err := c.take(ctx)
	return err
}

func (c *crowd) take(ctx context.Context) (fanReport, error) {
	select {
	case report, open := <-c.reports:
		if !open {
			err := <-c.done
			c.done <- err
			return report, c.process.failed(fmt.Errorf("it ended: %w", err))
		}
		if report.Joined != nil {
			c.joined = *report.Joined
		}
		if report.Progress != nil {
			c.progress = *report.Progress
		}
		return report, nil
	case <-ctx.Done():
		return fanReport{}, ctx.Err()
	}
}

// until waits until the progress is as wanted. A client whose connection ends is an error at once.
func (c *crowd) until(ctx context.Context, patience time.Duration, what string, wanted func(fanProgress) bool) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !wanted(c.progress) && c.progress.Gone == 0 {
		if err := c.next(waiting); err != nil {
			if waiting.Err() != nil && ctx.Err() == nil {
				return fmt.Errorf("%s did not happen within %s: %+v", what, patience, c.progress)
			}
			return err
		}
	}
	if c.progress.Gone > 0 {
		result, err := c.result(ctx, fanQuestion{})
		return errors.Join(fmt.Errorf("%d clients lost their connection: %q", c.progress.Gone, result.Failures), err)
	}
	return nil
}

// result ends the connections and asks what the clients noted.
func (c *crowd) result(ctx context.Context, question fanQuestion) (fanResult, error) {
	if err := c.order.Encode(question); err != nil {
		return fanResult{}, c.process.failed(err)
	}
	const patience = time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		report, err := c.take(ctx)
		if err != nil {
			return fanResult{}, err
		}
		if report.Result != nil {
			return *report.Result, nil
		}
	}
}

// checked is result, and an error unless every one of the deliveries was made once and in order.
func (c *crowd) checked(ctx context.Context, question fanQuestion, deliveries int64) (fanResult, error) {
	result, err := c.result(ctx, question)
	if err != nil {
		return result, err
	}
	return result, result.check(deliveries)
}

// check is an error unless every one of the deliveries that were due was made once, in order, and no connection ended.
func (result fanResult) check(deliveries int64) error {
	if result.Deliveries != deliveries || result.Skipped != 0 || result.Repeated != 0 || result.Gone != 0 {
		return fmt.Errorf("%d deliveries were due and %d were made; %d were left out, %d came twice or late; %d connections ended: %q",
			deliveries, result.Deliveries, result.Skipped, result.Repeated, result.Gone, result.Failures)
	}
	return nil
}

func (c *crowd) close() error {
	err := c.process.stop()
	for range c.reports { // read must not wait for a reader
	}
	return err
}
