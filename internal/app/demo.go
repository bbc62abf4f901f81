package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"switchboard/internal/account"
	"switchboard/internal/config"
	"switchboard/internal/domain"
)

// demo is what lets a newcomer try everything: simulated providers, an
// organization with a channel on each of them, and a way in.
type demo struct {
	simulators []*simulated // none of those whose place the operator gave to others
}

// newDemo starts the simulators and points cfg at them.
func newDemo(ctx context.Context, cfg *config.Config, apiAddress string, logger *slog.Logger) (*demo, error) {
	d := &demo{}
	if err := d.simulate(ctx, cfg, apiAddress, logger); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// close ends the simulators. It may be called more than once.
func (d *demo) close() error {
	var err error
	for _, s := range d.simulators {
		err = errors.Join(err, s.close())
	}
	d.simulators = nil
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
		if err := d.ensureChannels(ctx, s, in.User); err != nil {
			return err
		}
		say("  Sign in        %s/#refresh=%s", base, in.RefreshToken)
		say("                 (once; or as %s with the password %s)", c.Email, c.Password)
	} else {
		say("  Sign in        %s/   (with your own account)", base)
	}
	say("  API            %s/docs", base)
	for _, sim := range d.simulators {
		say("  Be a customer  %s/   (%s simulator)", sim.base(), cmp.Or(sim.page, sim.title))
	}
	say("  Data           %s\n  Stop           Ctrl+C\n", s.core.cfg.DataDir)
	return nil
}

// ensureChannels makes the channels to the simulators that were never made: one
// that somebody deleted stays deleted.
func (d *demo) ensureChannels(ctx context.Context, s *Standalone, user domain.User) error {
	who := domain.Principal{UserID: user.ID, OrganizationID: user.OrganizationID, Role: user.Role}
	for _, sim := range d.simulators {
		marker := filepath.Join(s.core.cfg.DataDir, sim.marker)
		if _, err := os.Stat(marker); err == nil {
			continue
		}
		_, err := s.core.inbox.CreateChannel(ctx, who, sim.kind, sim.title+" (simulated)", sim.settings)
		if err != nil && domain.CodeOf(err) != domain.CodeConflict { // one that was made by hand
			return fmt.Errorf("make the demo's %s channel: %w", sim.title, err)
		}
		if err := os.WriteFile(marker, nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}
