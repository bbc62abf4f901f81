package waba

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"switchboard/internal/domain"
)

// The keys of a channel's configuration.
const (
	KeyPhoneNumberID     = "phoneNumberId"
	KeyBusinessAccountID = "businessAccountId"
	KeyAccessToken       = "accessToken"
	KeyAppSecret         = "appSecret"
	KeyVerifyToken       = "verifyToken"
)

// setting is one key of the configuration.
type setting struct {
	key      string
	secret   bool
	optional bool
	numeric  bool
	max      int    // bytes
	where    string // where a person finds the value
}

var settings = []setting{
	{key: KeyPhoneNumberID, numeric: true, max: 32, where: "the phone number ID from WhatsApp > API Setup in Meta's app dashboard (not the phone number)"},
	{key: KeyBusinessAccountID, numeric: true, optional: true, max: 32, where: "the WhatsApp Business Account ID from WhatsApp > API Setup in Meta's app dashboard"},
	{key: KeyAccessToken, secret: true, max: 4096, where: "a permanent token of a system user with the permission whatsapp_business_messaging"},
	{key: KeyAppSecret, secret: true, max: 256, where: "the app secret from App settings > Basic in Meta's app dashboard"},
	{key: KeyVerifyToken, secret: true, max: 256, where: "a word of your choice that you also enter as the webhook's verify token at Meta"},
}

// ParseConfig checks what an administrator entered and parts it into what may
// be shown (public) and what is sealed (secrets). externalKey is the phone
// number id, under which webhooks name the channel. An error is a
// *domain.Error with the field "config.<key>".
func ParseConfig(raw map[string]any) (public, secrets map[string]string, externalKey string, err error) {
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.key == key }) {
			return nil, nil, "", domain.Invalid("config."+key, fmt.Sprintf(
				"A channel of kind waba has no setting %q; it takes phoneNumberId, businessAccountId, accessToken, appSecret and verifyToken.", key))
		}
	}
	public, secrets = map[string]string{}, map[string]string{}
	for _, s := range settings {
		value, err := s.read(raw[s.key])
		switch {
		case err != nil:
			return nil, nil, "", err
		case value == "": // optional and not given
		case s.secret:
			secrets[s.key] = value
		default:
			public[s.key] = value
		}
	}
	return public, secrets, public[KeyPhoneNumberID], nil
}

func (s setting) read(raw any) (string, error) {
	invalid := func(what string) error {
		return domain.Invalid("config."+s.key, s.key+" "+what+": enter "+s.where+".")
	}
	if raw == nil {
		raw = ""
	}
	value, ok := raw.(string)
	if !ok {
		return "", invalid("must be text")
	}
	value = strings.TrimSpace(value)
	switch {
	case value == "" && s.optional:
		return "", nil
	case value == "":
		return "", invalid("is missing")
	case len(value) > s.max:
		return "", invalid(fmt.Sprintf("is longer than %d characters", s.max))
	case s.numeric && !isDigits(value):
		return "", invalid("must be digits only")
	case strings.ContainsFunc(value, notPrintable):
		return "", invalid("must have no spaces, line breaks or characters beyond ASCII")
	}
	return value, nil
}

// notPrintable is true for what cannot stand in an HTTP header and is never
// part of Meta's credentials.
func notPrintable(r rune) bool { return r <= ' ' || r > '~' }

func isDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}
