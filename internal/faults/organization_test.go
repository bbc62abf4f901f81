package faults

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/testkit"
)

// customersEach is how many customers an organization has on each of its lines: the first write to its business number, the
// next to its bot, and the last to its linked number, if it has one.
const customersEach = 2

// organization is a customer of the installation, with its admin, a business number, a bot and perhaps a linked number.
type organization struct {
	id       int64
	userID   int64
	name     string // letters and digits: the group of its canaries
	token    string // of its admin
	waba     *line
	telegram *line
	linked   *line   // nil unless the world is linked
	idle     []*line // further bots, to whom nobody writes
	chats    []int64 // with the customer i
}

// line is a channel and what it is at its provider.
type line struct {
	channel int64
	kind    domain.ChannelKind
	number  cloudapi.Number // at the Cloud API
	bot     telegram.Bot    // on Telegram
	phone   string          // the number that is linked like WhatsApp Web
}

// key is what the provider's ledger calls the line.
func (l *line) key() string {
	switch l.kind {
	case domain.KindTelegram:
		return strconv.FormatInt(l.bot.ID, 10)
	case domain.KindWhatsApp:
		return l.phone
	default:
		return l.number.PhoneNumberID
	}
}

// secrets are what must not be in a log.
func (l *line) secrets() []string {
	switch l.kind {
	case domain.KindTelegram:
		return []string{l.bot.Token}
	case domain.KindWhatsApp:
		return []string{l.phone}
	default:
		return []string{l.number.AccessToken, l.number.AppSecret}
	}
}

func (o *organization) lines() []*line { return append(o.busy(), o.idle...) }

// busy are the lines that customers write on.
func (o *organization) busy() []*line {
	if o.linked == nil {
		return []*line{o.waba, o.telegram}
	}
	return []*line{o.waba, o.telegram, o.linked}
}

// customers is how many customers there are.
func (o *organization) customers() int { return customersEach * len(o.busy()) }

// oneOfEach is one customer of each kind of channel.
func (o *organization) oneOfEach() []int {
	first := make([]int, len(o.busy()))
	for i := range first {
		first[i] = i * customersEach
	}
	return first
}

// The first customer on the bot, and on the linked number.
const (
	onTelegram = customersEach
	onWhatsApp = 2 * customersEach
)

// line is the one that a customer writes on.
func (o *organization) line(customer int) *line { return o.busy()[customer/customersEach] }

// customer is the address of one of the organization's customers.
func (o *organization) customer(i int) string {
	switch {
	case i < onTelegram:
		return fmt.Sprintf("4917%04d%05d", o.id, i)
	case i < onWhatsApp:
		return strconv.FormatInt(5_000_000+100*o.id+int64(i), 10)
	default:
		return fmt.Sprintf("4915%04d%05d", o.id, i)
	}
}

// lines are those of all organizations.
func (w *world) lines() []*line {
	var all []*line
	for _, o := range w.orgs {
		all = append(all, o.lines()...)
	}
	return all
}

// settle makes the organizations and begins their chats.
func (w *world) settle(organizations int) {
	w.t.Helper()
	w.orgs = make([]*organization, organizations)
	w.each(4, func(i int) error {
		o, err := w.newOrganization(i + 1)
		w.orgs[i] = o
		return err
	})
	w.each(4, func(i int) error { return w.awaitChannels(w.orgs[i]) })
	first := make([][]entry, organizations)
	for i, o := range w.orgs {
		for customer := range o.customers() {
			e, err := w.customerWrites(w.t.Context(), o, customer)
			require.NoError(w.t, err)
			first[i] = append(first[i], e)
		}
	}
	w.quiet()
	w.each(4, func(i int) error { return w.findChats(w.orgs[i], first[i]) })
}

// findChats learns the numbers of the organization's chats, by the first message of each.
func (w *world) findChats(o *organization, first []entry) error {
	o.chats = make([]int64, len(first))
	chats := map[string]int64{}
	err := w.query(w.t.Context(), "SELECT content, chat_id FROM messages WHERE organization_id = $1", []any{o.id}, func(r pgx.Rows) error {
		var content string
		var id int64
		err := r.Scan(&content, &id)
		chats[content] = id
		return err
	})
	for i, e := range first {
		if o.chats[i] = chats[e.canary()]; o.chats[i] == 0 && err == nil {
			err = fmt.Errorf("%s has no chat with customer %d among %v", o.name, i, chats)
		}
	}
	return err
}

// each calls do for every organization's index, some at a time.
func (w *world) each(atATime int, do func(i int) error) {
	w.t.Helper()
	errs := make(chan error, len(w.orgs))
	turns := make(chan struct{}, atATime)
	for i := range w.orgs {
		turns <- struct{}{}
		go func() {
			defer func() { <-turns }()
			errs <- do(i)
		}()
	}
	for range w.orgs {
		require.NoError(w.t, <-errs)
	}
}

// newOrganization registers one, and opens its lines.
func (w *world) newOrganization(n int) (*organization, error) {
	ctx := w.t.Context()
	o := &organization{name: fmt.Sprintf("org%d", n)}
	var registered struct {
		AccessToken string `json:"accessToken"`
		User        struct {
			ID             int64 `json:"id"`
			OrganizationID int64 `json:"organizationId"`
		} `json:"user"`
	}
	err := w.rest(ctx, o, http.MethodPost, "/api/auth/register", map[string]any{
		"organizationName": o.name, "name": "Ada", "email": o.name + "@example.com", "password": "correct horse " + o.name,
	}, &registered)
	if err != nil {
		return nil, err
	}
	o.id, o.userID, o.token = registered.User.OrganizationID, registered.User.ID, registered.AccessToken
	for i := onTelegram; i < onWhatsApp; i++ {
		id, _ := strconv.ParseInt(o.customer(i), 10, 64)
		who := telegram.Customer{ID: id, FirstName: fmt.Sprintf("Customer %d", i)}
		if err := request(ctx, http.MethodPost, w.telegram+"/control/customers", "", who, nil); err != nil {
			return nil, err
		}
	}
	if o.waba, err = w.openNumber(ctx, o, n); err != nil {
		return nil, err
	}
	if o.telegram, err = w.openBot(ctx, o, int64(n)); err != nil || !w.linked {
		return o, err
	}
	o.linked, err = w.openLinked(ctx, o, n)
	return o, err
}

// openNumber gives an organization a business number.
func (w *world) openNumber(ctx context.Context, o *organization, n int) (*line, error) {
	phone := strconv.Itoa(100_000 + n)
	l := &line{kind: domain.KindWABA, number: cloudapi.Number{
		PhoneNumberID: phone, AccessToken: "EAA-token-" + phone, AppSecret: "app-secret-" + phone, VerifyToken: "verify-" + phone,
		WebhookURL: w.balancer.URL() + "/webhooks/waba", NoLimits: true,
	}}
	if err := w.control(ctx, "/control/numbers", l.number); err != nil {
		return nil, err
	}
	return l, w.openChannel(ctx, o, l, map[string]any{
		"phoneNumberId": phone, "accessToken": l.number.AccessToken, "appSecret": l.number.AppSecret, "verifyToken": l.number.VerifyToken,
	})
}

// openBot gives an organization a bot, the n-th of the world.
func (w *world) openBot(ctx context.Context, o *organization, n int64) (*line, error) {
	l := &line{kind: domain.KindTelegram, bot: telegram.Bot{
		ID: 100_000_000 + n, Token: fmt.Sprintf("%d:AA-a-bot-token-that-nobody-may-see-%03d", 100_000_000+n, n), NoLimits: true,
	}}
	if err := request(ctx, http.MethodPost, w.telegram+"/control/bots", "", l.bot, nil); err != nil {
		return nil, err
	}
	return l, w.openChannel(ctx, o, l, map[string]any{"botToken": l.bot.Token})
}

func (w *world) openChannel(ctx context.Context, o *organization, l *line, config map[string]any) error {
	var made struct {
		ID int64 `json:"id"`
	}
	err := w.rest(ctx, o, http.MethodPost, "/api/channels", map[string]any{"kind": l.kind, "name": "Line " + l.key(), "config": config}, &made)
	l.channel = made.ID
	return err
}

// openIdle spreads further bots over the organizations and waits until they are polled.
func (w *world) openIdle(bots int) {
	w.t.Helper()
	w.each(4, func(i int) error {
		o := w.orgs[i]
		for n := i; n < bots; n += len(w.orgs) {
			l, err := w.openBot(w.t.Context(), o, int64(len(w.orgs)+n+1))
			if err != nil {
				return err
			}
			o.idle = append(o.idle, l)
		}
		return w.awaitChannels(o)
	})
}

// awaitChannels waits until workers have connected all of the organization's channels.
func (w *world) awaitChannels(o *organization) error {
	return poll(testkit.Context(w.t), func(ctx context.Context) error {
		connected, all := 0, len(o.lines())
		err := w.query(ctx, "SELECT count(*) FROM channels WHERE organization_id = $1 AND state = 'connected'", []any{o.id},
			func(r pgx.Rows) error { return r.Scan(&connected) })
		if err == nil && connected != all {
			err = fmt.Errorf("%d of %d channels of %s are connected", connected, all, o.name)
		}
		return err
	})
}
