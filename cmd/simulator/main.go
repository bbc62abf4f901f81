// Command simulator serves simulated messaging providers for development: real protocols, no account, no network.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"switchboard/internal/simulator"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/simulator/whatsapp"
)

// addresses at which the simulators listen.
type addresses struct{ waba, telegram, whatsapp string }

func main() {
	var at addresses
	flag.StringVar(&at.waba, "listen", "127.0.0.1:4000", "`address` of the WhatsApp Business simulator (Cloud API) and its page")
	webhook := flag.String("webhook-url", "http://127.0.0.1:3000/webhooks/waba", "`URL` at which the product takes the demo number's webhooks")
	flag.StringVar(&at.telegram, "telegram-listen", "127.0.0.1:4001", "`address` of the Telegram simulator (Bot API) and its page")
	flag.StringVar(&at.whatsapp, "whatsapp-listen", "127.0.0.1:4002", "`address` of the WhatsApp simulator (phones, by QR) and its page")
	state := flag.String("whatsapp-state", "", "`file` in which the WhatsApp simulator keeps linked devices across restarts")
	level := flag.String("log-level", "info", "debug, info, warn or error")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, at, *webhook, *state, *level)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, at addresses, webhook, state, level string) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; --help lists the flags", flag.Arg(0))
	}
	var lvl slog.Level
	if err := lvl.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("-log-level is %q; it must be debug, info, warn or error", level)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: lvl}))
	number := cloudapi.DemoNumber(webhook)
	waba, err := cloudapi.New(cloudapi.Options{
		Logger: log, Numbers: []cloudapi.Number{number}, Customers: cloudapi.DemoCustomers(), AutoRegister: &number,
	})
	if err != nil {
		return fmt.Errorf("-webhook-url is %q; it must be an http or https URL: %w", webhook, err)
	}
	bot := telegram.DemoBot()
	bots, err := telegram.New(telegram.Options{Logger: log, Bots: []telegram.Bot{bot}, Customers: telegram.DemoCustomers(), AutoRegister: true})
	if err != nil {
		return err
	}
	linked, err := whatsapp.New(whatsapp.Options{
		Logger: log, RootKey: whatsapp.DemoRootKey(), Phones: []whatsapp.Phone{whatsapp.DemoPhone()},
		People: whatsapp.DemoPeople(), Groups: whatsapp.DemoGroups(), StateFile: state,
	})
	if err != nil {
		return err
	}
	return simulator.Run(
		ctx, log, os.Stdout,
		simulator.Part{Name: simulator.NameBusiness, Flag: "listen", Listen: at.waba, Provider: waba, Hint: number.Hint},
		simulator.Part{Name: simulator.NameTelegram, Flag: "telegram-listen", Listen: at.telegram, Provider: bots, Hint: bot.Hint},
		simulator.Part{Name: simulator.NamePhones, Flag: "whatsapp-listen", Listen: at.whatsapp, Provider: linked, Hint: linked.Hint},
	)
}
