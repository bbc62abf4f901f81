package telegram

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"switchboard/internal/domain"
)

// KeyBotToken is the one key of a channel's configuration.
const KeyBotToken = "botToken"

// tokenForm is the bot's id, a colon, and the secret.
var tokenForm = regexp.MustCompile(`^[1-9][0-9]{4,15}:[A-Za-z0-9_-]{30,80}$`)

// ParseConfig checks what an administrator entered. The token is sealed;
// externalKey is the bot's id, which is the part of the token before the colon
// and stays the same when the token is replaced. An error is a *domain.Error
// with the field "config.<key>"; it never repeats what was entered.
func ParseConfig(raw map[string]any) (public, secrets map[string]string, externalKey string, err error) {
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		if key != KeyBotToken {
			return nil, nil, "", domain.Invalid("config."+key, fmt.Sprintf("A channel of kind telegram has no setting %q; it takes botToken.", key))
		}
	}
	token, err := readToken(raw[KeyBotToken])
	if err != nil {
		return nil, nil, "", err
	}
	return map[string]string{}, map[string]string{KeyBotToken: token}, botID(token), nil
}

func readToken(raw any) (string, error) {
	invalid := func(what string) error {
		return domain.Invalid("config."+KeyBotToken, "botToken "+what+": enter the token that @BotFather gives for the bot, like 123456789:AA….")
	}
	if raw == nil {
		return "", invalid("is missing")
	}
	value, ok := raw.(string)
	if !ok {
		return "", invalid("must be text")
	}
	value = strings.TrimSpace(value)
	switch {
	case value == "":
		return "", invalid("is missing")
	case !tokenForm.MatchString(value):
		return "", invalid("does not look like a bot's token")
	}
	return value, nil
}

func botID(token string) string {
	id, _, _ := strings.Cut(token, ":")
	return id
}
