package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"switchboard/internal/channel/waba"
)

// loadCommand runs as a process of its own, so that the cost of making the load is not the product's.
const loadCommand = "ingest-load"

// loadOrder is what the load process reads from its standard input.
type loadOrder struct {
	Address  string        `json:"address"`
	Path     string        `json:"path"`
	Posters  int           `json:"posters"`
	Duration time.Duration `json:"duration"`
	Customers
}

// loadResult is what it answers with on its standard output.
type loadResult struct {
	Posted       int           `json:"posted"` // answered with 200
	Started      time.Time     `json:"started"`
	P50          time.Duration `json:"p50"`
	P99          time.Duration `json:"p99"`
	Max          time.Duration `json:"max"`
	CPU          time.Duration `json:"cpu"`
	BytesPerPost int           `json:"bytesPerPost"`
}

// Customers says who writes to whom: organization i of 1..Organizations has the number that phoneNumberID(i) names, and
// the customers customer(i, 1..Chats).
type Customers struct {
	Organizations int `json:"organizations"`
	Chats         int `json:"chats"`
}

func phoneNumberID(organization int) string { return strconv.Itoa(106_540_000_000_000 + organization) }
func appSecret(organization int) string     { return fmt.Sprintf("app-secret-%026d", organization) }

// customer is a phone number; ingest.sql makes the same ones.
func customer(organization, chat int) int { return 49_000_000_000 + organization*1_000_000 + chat }

const (
	customerName    = "Ann Example"
	customerMessage = "Hello! Where is my order? It was due on Tuesday, thanks \U0001F64F"
)

// webhookBody is one message as Meta delivers it.
func webhookBody(organization, chat int, externalID string, at time.Time) []byte {
	from := strconv.Itoa(customer(organization, chat))
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":{`+
		`"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550783881","phone_number_id":"%s"},`+
		`"contacts":[{"profile":{"name":"%s"},"wa_id":"%s"}],`+
		`"messages":[{"from":"%s","id":"%s","timestamp":"%d","text":{"body":"%s"},"type":"text"}]},"field":"messages"}]}]}`,
		phoneNumberID(organization), customerName, from, from, externalID, at.Unix(), customerMessage)
}

// sign makes the signature header's value.
func sign(organization int, body []byte) string {
	mac := hmac.New(sha256.New, []byte(appSecret(organization)))
	_, _ = mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// newExternalID makes a message id as long as Meta's.
func newExternalID(random *rand.Rand) string {
	return fmt.Sprintf("wamid.HBgN%016x%016xAA==", random.Uint64(), random.Uint64())
}

// startLoad runs the load process and waits for its result.
func startLoad(ctx context.Context, order loadOrder) (loadResult, error) {
	self, err := os.Executable()
	if err != nil {
		return loadResult{}, fmt.Errorf("find this program: %w", err)
	}
	input, err := json.Marshal(order)
	if err != nil {
		return loadResult{}, err
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, self, loadCommand) //nolint:gosec // this program
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &output, os.Stderr
	if err := cmd.Run(); err != nil {
		return loadResult{}, fmt.Errorf("load process: %w", err)
	}
	var result loadResult
	if err := json.Unmarshal(output.Bytes(), &result); err != nil {
		return loadResult{}, fmt.Errorf("load process: result: %w", err)
	}
	return result, nil
}

// runLoad is the load process.
func runLoad(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	if err := parse(flags, args); err != nil {
		return err
	}
	var order loadOrder
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		return fmt.Errorf("load order: %w", err)
	}
	result, err := load(ctx, order)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// load posts until the duration is over. Every post must be answered with 200.
func load(ctx context.Context, order loadOrder) (loadResult, error) {
	posters := make([]*poster, order.Posters)
	for i := range posters {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", order.Address)
		if err != nil {
			return loadResult{}, fmt.Errorf("connect: %w", err)
		}
		defer func() { _ = conn.Close() }()
		posters[i] = &poster{order: order, conn: conn, answers: bufio.NewReader(conn), random: rand.New(rand.NewPCG(rand.Uint64(), uint64(i)))} //nolint:gosec // load, no secrets
	}
	result := loadResult{Started: time.Now()}
	end := result.Started.Add(order.Duration)
	errs := make([]error, len(posters))
	var wg sync.WaitGroup
	for i, p := range posters {
		wg.Go(func() {
			for errs[i] == nil && time.Now().Before(end) && ctx.Err() == nil {
				errs[i] = p.post()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return loadResult{}, err
	}
	var latencies []time.Duration
	for _, p := range posters {
		latencies = append(latencies, p.latencies...)
	}
	slices.Sort(latencies)
	result.Posted, result.CPU = len(latencies), cpuTime()
	result.P50, result.P99, result.Max = percentile(latencies, 0.5), percentile(latencies, 0.99), percentile(latencies, 1)
	result.BytesPerPost = len(webhookBody(1, 1, newExternalID(posters[0].random), time.Now()))
	return result, ctx.Err()
}

// poster is one keep-alive connection of Meta's. It writes HTTP by hand, because the load shares the cores with what is
// measured.
type poster struct {
	order     loadOrder
	conn      net.Conn
	answers   *bufio.Reader
	random    *rand.Rand
	request   []byte
	latencies []time.Duration
}

func (p *poster) post() error {
	organization := 1 + p.random.IntN(p.order.Organizations)
	body := webhookBody(organization, 1+p.random.IntN(p.order.Chats), newExternalID(p.random), time.Now())
	p.request = fmt.Appendf(p.request[:0], "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nUser-Agent: facebookexternalua\r\n%s: %s\r\nContent-Length: %d\r\n\r\n",
		p.order.Path, p.order.Address, waba.SignatureHeader, sign(organization, body), len(body))
	p.request = append(p.request, body...)
	begin := time.Now()
	if _, err := p.conn.Write(p.request); err != nil {
		return fmt.Errorf("post: %w", err)
	}
	answer, err := http.ReadResponse(p.answers, nil)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("a webhook was answered with %s: %.200s", answer.Status, text)
	}
	p.latencies = append(p.latencies, time.Since(begin))
	return nil
}
