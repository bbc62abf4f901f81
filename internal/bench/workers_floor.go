package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// The floor of inbound: what a careful hand would write for these bots and nothing else. It polls with the same library,
// commits each batch with its offset in one transaction by plain SQL, and publishes it. It has no event log, no contacts,
// no leases and no deduplication beyond a key.
const (
	workersFloor = "workers-floor"
	floorTopic   = "floor"
	floorTables  = `CREATE TABLE floor_offsets (bot BIGINT PRIMARY KEY, next BIGINT NOT NULL);
		CREATE TABLE floor_chats (bot BIGINT, chat BIGINT, last_text TEXT, unread INT NOT NULL DEFAULT 0, PRIMARY KEY (bot, chat));
		CREATE TABLE floor_messages (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, bot BIGINT, chat BIGINT, message BIGINT, body TEXT, at BIGINT,
			UNIQUE (bot, chat, message))`
)

func (h *house) startFloor() (*fanServer, error) {
	tokens := make([]string, len(h.ids))
	for i, bot := range h.telegram.Bots() {
		tokens[i] = bot.Token
	}
	return listening(startSelf("floor", nil, workersFloor, "-database", h.database, "-redis", h.b.redisURL, "-api", h.botAPI.URL+"/bot%s/%s",
		"-tokens", strings.Join(tokens, ",")))
}

func runWorkersFloor(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	database, redisURL := flags.String("database", "", "PostgreSQL"), flags.String("redis", "", "Redis")
	api, tokens := flags.String("api", "", "Bot API"), flags.String("tokens", "", "of the bots")
	if err := parse(flags, args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	go endWithInput()
	settings, err := pgxpool.ParseConfig(*database)
	if err != nil {
		return fmt.Errorf("-database: %w", err)
	}
	settings.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, floorTables); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	options, err := redis.ParseURL(*redisURL)
	if err != nil {
		return fmt.Errorf("-redis: %w", err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	_, _ = fmt.Fprintln(out, "the floor listens on 127.0.0.1:0")
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	for _, token := range strings.Split(*tokens, ",") {
		bot := &tgbotapi.BotAPI{Token: token, Client: cancelled{ctx}}
		bot.SetAPIEndpoint(*api)
		wg.Go(func() {
			if err := (floorBot{bot, pool, client}).run(ctx); err != nil && ctx.Err() == nil {
				select {
				case failed <- err:
					stop()
				default:
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

type floorBot struct {
	api   *tgbotapi.BotAPI
	pool  *pgxpool.Pool
	redis *redis.Client
}

func (f floorBot) run(ctx context.Context) error {
	id := strings.SplitN(f.api.Token, ":", 2)[0]
	for next := 0; ctx.Err() == nil; {
		updates, err := f.api.GetUpdates(tgbotapi.UpdateConfig{Offset: next, Limit: 100, Timeout: 30})
		if err != nil {
			return err
		}
		if len(updates) == 0 {
			continue
		}
		next = updates[len(updates)-1].UpdateID + 1
		if err := f.commit(ctx, id, next, updates); err != nil {
			return err
		}
	}
	return nil
}

func (f floorBot) commit(ctx context.Context, id string, next int, updates []tgbotapi.Update) error {
	err := pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		for _, u := range updates {
			batch.Queue("INSERT INTO floor_messages (bot, chat, message, body, at) VALUES ($1::text::bigint, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
				id, u.Message.Chat.ID, u.Message.MessageID, u.Message.Text, time.Now().UnixMilli())
			batch.Queue(`INSERT INTO floor_chats (bot, chat, last_text, unread) VALUES ($1::text::bigint, $2, $3, 1)
				ON CONFLICT (bot, chat) DO UPDATE SET last_text = excluded.last_text, unread = floor_chats.unread + 1`, id, u.Message.Chat.ID, u.Message.Text)
		}
		batch.Queue("INSERT INTO floor_offsets (bot, next) VALUES ($1::text::bigint, $2) ON CONFLICT (bot) DO UPDATE SET next = excluded.next", id, next)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	pipe := f.redis.Pipeline()
	for _, u := range updates {
		pipe.Publish(ctx, floorTopic, u.Message.Text)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// cancelled ends the library's calls, which know no contexts, with the process.
type cancelled struct{ ctx context.Context } //nolint:containedctx // the library has no place for it

// Do implements tgbotapi.HTTPClient.
func (c cancelled) Do(request *http.Request) (*http.Response, error) {
	return http.DefaultClient.Do(request.WithContext(c.ctx)) //nolint:gosec // the simulator
}
