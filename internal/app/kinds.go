package app

import (
	"fmt"

	"switchboard/internal/channel"
	"switchboard/internal/channel/telegram"
	"switchboard/internal/channel/waba"
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
	}
}

// factories make the sessions of the same kinds.
func factories(cfg config.Config) (map[domain.ChannelKind]channel.Factory, error) {
	cloud, err := waba.NewFactory(waba.Options{
		BaseURL: cfg.WABAAPIURL,
		Media:   safehttp.New(safehttp.Options{Allow: endpoints(cfg), MaxBytes: int64(cfg.MediaMaxBytes)}),
	})
	if err != nil {
		return nil, fmt.Errorf("WABA_API_URL: %w", err)
	}
	bots, err := telegram.NewFactory(telegram.Options{API: cfg.TelegramAPIEndpoint, Files: cfg.TelegramFileEndpoint})
	if err != nil {
		return nil, fmt.Errorf("TELEGRAM_API_ENDPOINT or TELEGRAM_FILE_ENDPOINT: %w", err)
	}
	return map[domain.ChannelKind]channel.Factory{domain.KindWABA: cloud, domain.KindTelegram: bots}, nil
}
