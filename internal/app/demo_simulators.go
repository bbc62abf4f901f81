package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"switchboard/internal/channel/telegram"
	"switchboard/internal/config"
	"switchboard/internal/domain"
	"switchboard/internal/simulator"
	"switchboard/internal/simulator/cloudapi"
	telegramsim "switchboard/internal/simulator/telegram"
	whatsappsim "switchboard/internal/simulator/whatsapp"
)

// simulatorDrain is how long a simulator's requests may take to end.
const simulatorDrain = 5 * time.Second

// simulated is a simulator that runs in the demo, and the channel that the
// demo's organization has on it.
type simulated struct {
	title    string // for people: "WhatsApp"
	page     string // the name of its page, if another
	kind     domain.ChannelKind
	settings map[string]any // of the channel
	marker   string         // file in the data folder that says: the channel was made

	provider simulator.Provider
	server   *server
}

// simulate starts the simulators whose real providers cfg has at their default
// addresses, and points cfg at them: what the operator set is left alone.
func (d *demo) simulate(ctx context.Context, cfg *config.Config, apiAddress string, logger *slog.Logger) error {
	defaults := config.Defaults(config.Standalone)
	if cfg.WABAAPIURL == defaults.WABAAPIURL {
		if err := d.simulateCloudAPI(ctx, cfg, apiAddress, logger); err != nil {
			return err
		}
	}
	if cfg.WhatsAppEndpoint == "" {
		if err := d.simulateWhatsApp(ctx, cfg, logger); err != nil {
			return err
		}
	}
	// The bot's token goes to both addresses, so one alone is not replaced.
	if cfg.TelegramAPIEndpoint == defaults.TelegramAPIEndpoint && cfg.TelegramFileEndpoint == defaults.TelegramFileEndpoint {
		return d.simulateTelegram(ctx, cfg, logger)
	}
	return nil
}

func (d *demo) simulateCloudAPI(ctx context.Context, cfg *config.Config, apiAddress string, logger *slog.Logger) error {
	number := cloudapi.DemoNumber("http://" + apiAddress + "/webhooks/waba")
	number.NoWindow = true // after a restart the product knows who wrote within 24 hours, the simulator does not
	cloud, err := cloudapi.New(cloudapi.Options{Logger: logger, Numbers: []cloudapi.Number{number}, Customers: cloudapi.DemoCustomers()})
	if err != nil {
		return err
	}
	base, err := d.add(ctx, *cfg, logger, "127.0.0.1:4000", &simulated{
		title: "WhatsApp", page: "WhatsApp Business", kind: domain.KindWABA, marker: "demo.channel", provider: cloud,
		settings: map[string]any{
			"phoneNumberId": number.PhoneNumberID, "businessAccountId": number.BusinessAccountID, "accessToken": number.AccessToken,
			"appSecret": number.AppSecret, "verifyToken": number.VerifyToken,
		},
	})
	cfg.WABAAPIURL = base + "/v24.0"
	return err
}

// simulateWhatsApp starts the phones that link themselves by QR or pairing code.
// They remember what was linked: so does the product.
func (d *demo) simulateWhatsApp(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	phones, err := whatsappsim.New(whatsappsim.Options{
		Logger: logger, RootKey: whatsappsim.DemoRootKey(), StateFile: filepath.Join(cfg.DataDir, "demo.whatsapp.json"),
		Phones: []whatsappsim.Phone{whatsappsim.DemoPhone()}, People: whatsappsim.DemoPeople(), Groups: whatsappsim.DemoGroups(),
	})
	if err != nil {
		return err
	}
	cfg.WhatsAppRootKey = phones.RootKeyHex()
	cfg.WhatsAppEndpoint, err = d.add(ctx, *cfg, logger, "127.0.0.1:4002", &simulated{
		title: "WhatsApp by QR", kind: domain.KindWhatsApp, marker: "demo.whatsapp", provider: phones, settings: map[string]any{},
	})
	return err
}

func (d *demo) simulateTelegram(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	bot, customers := telegramsim.DemoBot(), telegramsim.DemoCustomers()
	for i := range customers {
		customers[i].Started = true // likewise: before a restart
	}
	bots, err := telegramsim.New(telegramsim.Options{Logger: logger, Bots: []telegramsim.Bot{bot}, Customers: customers})
	if err != nil {
		return err
	}
	base, err := d.add(ctx, *cfg, logger, "127.0.0.1:4001", &simulated{
		title: "Telegram", kind: domain.KindTelegram, marker: "demo.telegram", provider: bots,
		settings: map[string]any{telegram.KeyBotToken: bot.Token},
	})
	cfg.TelegramAPIEndpoint, cfg.TelegramFileEndpoint = base+"/bot%s/%s", base+"/file/bot%s/%s"
	return err
}

// add serves a simulator at its usual address, or at a free port where that is
// taken, and returns its base URL.
func (d *demo) add(ctx context.Context, cfg config.Config, logger *slog.Logger, usual string, s *simulated) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", usual)
	if err != nil {
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return "", fmt.Errorf("the %s simulator finds no port: %w", s.title, err)
		}
	}
	if err := s.provider.Start(context.WithoutCancel(ctx)); err != nil { // it ends by Close, which drains
		return "", errors.Join(err, listener.Close())
	}
	s.server = serve(listener, s.provider.Handler(), cfg, logger)
	d.simulators = append(d.simulators, s)
	return s.base(), nil
}

// base is the simulator's URL, and that of its page.
func (s *simulated) base() string { return "http://" + addr(s.server.listener) }

func (s *simulated) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), simulatorDrain)
	defer cancel()
	return errors.Join(s.provider.Close(), s.server.drain(ctx))
}
