package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"switchboard/internal/channel"
	"switchboard/internal/channel/telegram"
	"switchboard/internal/channel/waba"
	"switchboard/internal/channel/whatsapp"
	"switchboard/internal/config"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/safehttp"
)

// kinds are the channels that this build can run, by what reads their
// settings. A kind that is missing is refused when somebody makes a channel.
func kinds() map[domain.ChannelKind]inbox.ConfigParser {
	return map[domain.ChannelKind]inbox.ConfigParser{
		domain.KindWABA:     waba.ParseConfig,
		domain.KindTelegram: telegram.ParseConfig,
		domain.KindWhatsApp: whatsapp.ParseConfig,
	}
}

// factories make the sessions of the same kinds.
func factories(cfg config.Config, logger *slog.Logger) (map[domain.ChannelKind]channel.Factory, error) {
	cloud, err := waba.NewFactory(waba.Options{BaseURL: cfg.WABAAPIURL, Media: mediaClient(cfg, 0)})
	if err != nil {
		return nil, fmt.Errorf("WABA_API_URL: %w", err)
	}
	bots, err := telegram.NewFactory(telegram.Options{API: cfg.TelegramAPIEndpoint, Files: cfg.TelegramFileEndpoint})
	if err != nil {
		return nil, fmt.Errorf("TELEGRAM_API_ENDPOINT or TELEGRAM_FILE_ENDPOINT: %w", err)
	}
	numbers, err := whatsapp.NewFactory(whatsapp.Options{
		Endpoint: cfg.WhatsAppEndpoint, RootKey: cfg.WhatsAppRootKey,
		Media: mediaClient(cfg, whatsapp.SealBytes), Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("WHATSAPP_ENDPOINT or WHATSAPP_ROOT_KEY: %w", err)
	}
	return map[domain.ChannelKind]channel.Factory{domain.KindWABA: cloud, domain.KindTelegram: bots, domain.KindWhatsApp: numbers}, nil
}

const (
	// mediaTimeout bounds the transfer of one file: the largest one that is let in by default, on a line of 1.5 Mbit/s.
	mediaTimeout = 10 * time.Minute
	// mediaIdle is how long nothing of it may move.
	mediaIdle = 45 * time.Second
)

// mediaClient brings files from and to addresses that providers name. What comes may be larger by seal bytes than the
// files in it.
func mediaClient(cfg config.Config, seal int64) *http.Client {
	return safehttp.New(safehttp.Options{
		Allow: endpoints(cfg), MaxBytes: int64(cfg.MediaMaxBytes) + seal, Timeout: mediaTimeout, Idle: mediaIdle,
	})
}
