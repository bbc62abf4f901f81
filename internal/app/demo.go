package app

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"switchboard/internal/account"
	"switchboard/internal/config"
	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

// simulatorAddress is where the Cloud API's simulator listens, if it is free.
const simulatorAddress = "127.0.0.1:4000"

// demo is what lets a newcomer try everything: simulated providers, an
// organization with a channel on them, and a way in.
type demo struct {
	number    cloudapi.Number
	cloud     *cloudapi.Server
	listener  net.Listener
	http      *http.Server
	simulated bool // false: the operator set another Cloud API
	closed    bool
}

// newDemo starts the simulators and points cfg at them. Providers whose
// endpoint the operator set are left alone.
func newDemo(ctx context.Context, cfg *config.Config, apiAddress string, logger *slog.Logger) (*demo, error) {
	d := &demo{number: cloudapi.DemoNumber("http://" + apiAddress + "/webhooks/waba")}
	if cfg.WABAAPIURL != config.Defaults(config.Standalone).WABAAPIURL {
		return d, nil
	}
	var err error
	listener := net.ListenConfig{}
	if d.listener, err = listener.Listen(ctx, "tcp", simulatorAddress); err != nil {
		if d.listener, err = listener.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("the simulator finds no port: %w", err)
		}
	}
	d.cloud, err = cloudapi.New(cloudapi.Options{Logger: logger, Numbers: []cloudapi.Number{d.number}})
	if err != nil {
		return nil, errors.Join(err, d.listener.Close())
	}
	if err := d.cloud.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, errors.Join(err, d.listener.Close())
	}
	d.simulated = true
	d.http = newHTTPServer(*cfg, d.cloud.Handler(), logger)
	go func() { _ = d.http.Serve(d.listener) }()
	cfg.WABAAPIURL = d.page() + "/v24.0"
	return d, nil
}

// page is the address of the simulator's page.
func (d *demo) page() string { return "http://" + d.listener.Addr().String() }

func (d *demo) close() error {
	if !d.simulated || d.closed {
		return nil
	}
	d.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := d.cloud.Close()
	if d.http.Shutdown(ctx) != nil {
		err = errors.Join(err, d.http.Close())
	}
	return err
}

// credentials are the demo's sign-in, kept in the data folder so that a
// restart finds it again.
type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

const demoEmail = "admin@demo.invalid"

func credentialsFile(cfg config.Config) string { return filepath.Join(cfg.DataDir, "demo.json") }

func readCredentials(cfg config.Config) (credentials, error) {
	var c credentials
	raw, err := os.ReadFile(credentialsFile(cfg))
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	return c, err
}

func writeCredentials(cfg config.Config, c credentials) error {
	raw, err := json.MarshalIndent(c, "", "  ") // #nosec G117 -- the demo's own password, for the owner of the folder only
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(credentialsFile(cfg), append(raw, '\n'), 0o600)
}

// signIn makes the demo's organization on the first start, and signs its admin
// in on every one. ok is false when the organization is the operator's own.
func (d *demo) signIn(ctx context.Context, s *Standalone) (in account.SignedIn, c credentials, ok bool, err error) {
	cfg, accounts := s.core.cfg, s.node.accounts
	local := netip.MustParseAddr("127.0.0.1")
	c, err = readCredentials(cfg)
	if err == nil {
		in, err = accounts.Login(ctx, c.Email, c.Password, local)
		if err == nil {
			return in, c, true, nil
		}
		if domain.CodeOf(err) != domain.CodeUnauthenticated {
			return in, c, false, fmt.Errorf("sign in to the demo: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return in, c, false, fmt.Errorf("%s cannot be read (%w): remove it to begin anew", credentialsFile(cfg), err)
	}
	c = credentials{Email: demoEmail, Password: rand.Text()}
	in, err = accounts.Register(ctx, account.Registration{
		OrganizationName: "Demo", Name: "Demo Admin", Email: c.Email, Password: c.Password,
	})
	if domain.CodeOf(err) == domain.CodeRegistration || domain.CodeOf(err) == domain.CodeConflict {
		return in, c, false, nil // somebody's own data, or a password that they changed
	}
	if err != nil {
		return in, c, false, fmt.Errorf("make the demo's organization: %w", err)
	}
	return in, c, true, writeCredentials(cfg, c)
}

// greet makes what is missing of the demo and prints the way in.
func (d *demo) greet(ctx context.Context, s *Standalone) error {
	in, c, ok, err := d.signIn(ctx, s)
	if err != nil {
		return err
	}
	base := s.core.cfg.PublicURL
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }
	say("\nSwitchboard runs on %s", base)
	if ok {
		if err := d.ensureChannel(ctx, s, in.User); err != nil {
			return err
		}
		say("  Sign in        %s/#refresh=%s", base, in.RefreshToken)
		say("                 (once; or as %s with the password %s)", c.Email, c.Password)
	} else {
		say("  Sign in        %s/   (with your own account)", base)
	}
	say("  API            %s/docs", base)
	if d.simulated {
		say("  Be a customer  %s/   (WhatsApp simulator)", d.page())
	}
	say("  Data           %s\n  Stop           Ctrl+C\n", s.core.cfg.DataDir)
	return nil
}

// ensureChannel makes the channel to the simulator, if it was never made: one
// that somebody deleted stays deleted.
func (d *demo) ensureChannel(ctx context.Context, s *Standalone, user domain.User) error {
	who := domain.Principal{UserID: user.ID, OrganizationID: user.OrganizationID, Role: user.Role}
	marker := filepath.Join(s.core.cfg.DataDir, "demo.channel")
	if _, err := os.Stat(marker); err == nil || !d.simulated {
		return nil
	}
	settings := map[string]any{
		"phoneNumberId": d.number.PhoneNumberID, "businessAccountId": d.number.BusinessAccountID, "accessToken": d.number.AccessToken,
		"appSecret": d.number.AppSecret, "verifyToken": d.number.VerifyToken,
	}
	_, err := s.core.inbox.CreateChannel(ctx, who, domain.KindWABA, "WhatsApp (simulated)", settings)
	if err != nil && domain.CodeOf(err) != domain.CodeConflict {
		return fmt.Errorf("make the demo's channel: %w", err)
	}
	return os.WriteFile(marker, nil, 0o600)
}
