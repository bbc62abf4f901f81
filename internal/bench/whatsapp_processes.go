package bench

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// The processes of whatsapp.
const (
	whatsappWorker = "whatsapp-worker" // what cmd/worker is, which can be profiled
	whatsappBare   = "whatsapp-bare"   // the peer: the library's clients alone
	bareName       = "bare whatsmeow"
)

// runWhatsAppWorker is a worker. SIGUSR1 begins a CPU profile in the folder of -profile, SIGUSR2 ends it.
func runWhatsAppWorker(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	folder := flags.String("profile", "", "a folder")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *folder != "" {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
		go profiles(*folder, signals)
	}
	return runWorkerProcess(ctx, flag.NewFlagSet("", flag.ContinueOnError), nil, out)
}

func profiles(folder string, signals <-chan os.Signal) {
	var file *os.File
	for n := 1; ; {
		switch <-signals {
		case syscall.SIGUSR1:
			var err error
			name := filepath.Join(folder, fmt.Sprintf("worker-%d-%d.cpu", os.Getpid(), n))
			if file, err = os.Create(name); err != nil { //nolint:gosec // the folder that whoever measures has named
				fmt.Fprintln(os.Stderr, "profile:", err)
				continue
			}
			n++
			if err := pprof.StartCPUProfile(file); err != nil {
				fmt.Fprintln(os.Stderr, "profile:", err)
			}
		case syscall.SIGUSR2:
			pprof.StopCPUProfile()
			_ = file.Close()
		}
	}
}

// profiled runs fn while the worker writes a profile, if one is wanted.
func (b *whatsappBench) profiled(w *fanServer, fn func() error) error {
	if b.profile == "" {
		return fn()
	}
	err := w.cmd.Process.Signal(syscall.SIGUSR1)
	return errors.Join(err, fn(), w.cmd.Process.Signal(syscall.SIGUSR2))
}

// bareHouse is a database with the devices of bare clients, linked without the network.
type bareHouse struct {
	h        *numbersHouse
	database string
	numbers  []string
}

// newBareHouse links the last n phones of the simulator.
func (h *numbersHouse) newBareHouse(ctx context.Context, n int) (*bareHouse, error) {
	bare := &bareHouse{h: h, database: h.bench.server.CreateDatabase(fmt.Sprintf("bare_%d", h.b.houses))}
	container, err := bareStore(ctx, bare.database)
	if err != nil {
		return nil, err
	}
	defer func() { _ = container.Close() }()
	for i := range n {
		phone := number(len(h.numbers) + i)
		if err := h.sim.Provision(ctx, phone, container.NewDevice()); err != nil {
			return nil, fmt.Errorf("link a bare client: %w", err)
		}
		bare.numbers = append(bare.numbers, phone)
	}
	return bare, nil
}

// start starts the process; without connect its clients are not even made.
func (b *bareHouse) start(connect bool) (*fanServer, error) {
	return listening(startSelf(bareName, nil, whatsappBare, "-database", b.database, "-endpoint", b.h.web.URL,
		"-root-key", b.h.sim.RootKeyHex(), fmt.Sprintf("-connect=%t", connect)))
}

// runWhatsAppBare keeps one client of the library for each device of a database, with the switches that make an
// acknowledgement mean that the keys are stored. It does nothing with the messages.
func runWhatsAppBare(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	database, endpoint := flags.String("database", "", "PostgreSQL"), flags.String("endpoint", "", "http://host:port")
	rootKey, connect := flags.String("root-key", "", "of the endpoint's certificates, in hex"), flags.Bool("connect", true, "connect the devices")
	if err := parse(flags, args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	go endWithInput()
	key, err := hex.DecodeString(*rootKey)
	if err != nil {
		return fmt.Errorf("-root-key: %w", err)
	}
	copy(whatsmeow.WACertPubKey[:], key)
	container, err := bareStore(ctx, *database)
	if err != nil {
		return err
	}
	defer func() { _ = container.Close() }()
	var devices []*store.Device
	if *connect {
		if devices, err = container.GetAllDevices(ctx); err != nil {
			return fmt.Errorf("read the devices: %w", err)
		}
	}
	clients := &bareClients{wanted: int64(len(devices))}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: clients.handler(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	_, _ = fmt.Fprintln(out, "the bare clients listen on", listener.Addr())
	if err := clients.connect(ctx, devices, *endpoint); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// bareStore is the library's own store, with as many connections as a worker has.
func bareStore(ctx context.Context, database string) (*sqlstore.Container, error) {
	const connections = 20
	db, err := sql.Open("pgx", database)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	container := sqlstore.NewWithDB(db, "pgx", waLog.Noop)
	if err := container.Upgrade(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make the library's tables: %w", err), db.Close())
	}
	return container, nil
}

type bareClients struct {
	wanted int64
	open   atomic.Int64
}

func (c *bareClients) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.Handler())
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if c.open.Load() < c.wanted {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux
}

func (c *bareClients) connect(ctx context.Context, devices []*store.Device, endpoint string) error {
	base, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("-endpoint: %w", err)
	}
	web := &http.Client{Transport: elsewhere{base}}
	for _, device := range devices {
		client := whatsmeow.NewClient(device, waLog.Noop)
		client.SetWebsocketHTTPClient(web)
		client.SetPreLoginHTTPClient(web)
		client.SetMediaHTTPClient(web)
		client.SynchronousAck = true
		client.EnableDecryptedEventBuffer = true
		client.AddEventHandler(func(evt any) {
			if _, is := evt.(*events.Connected); is {
				c.open.Add(1)
			}
		})
		if err := client.ConnectContext(ctx); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	return nil
}

// elsewhere sends what is meant for any host to the base.
type elsewhere struct{ base *url.URL }

// RoundTrip implements http.RoundTripper.
func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.URL.Scheme, r.URL.Host = e.base.Scheme, e.base.Host
	return http.DefaultTransport.RoundTrip(r)
}
