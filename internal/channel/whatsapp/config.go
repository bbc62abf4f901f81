package whatsapp

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"switchboard/internal/domain"
)

// keyPhone is the one key of a channel's configuration: the number that may be
// linked, or was.
const keyPhone = "phone"

var digits = regexp.MustCompile(`^[1-9][0-9]{6,14}$`)

// ParseConfig checks what an administrator entered: nothing, or the number that
// alone may be linked, which is also what linking leaves there. externalKey is
// the number's digits. An error is a *domain.Error with the field
// "config.<key>".
func ParseConfig(raw map[string]any) (public, secrets map[string]string, externalKey string, err error) {
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		if key != keyPhone {
			return nil, nil, "", domain.Invalid("config."+key, fmt.Sprintf(
				"A channel of kind whatsapp has no setting %q: it is linked by QR or pairing code.", key))
		}
	}
	public = map[string]string{}
	if raw[keyPhone] == nil {
		return public, nil, "", nil
	}
	phone, ok := raw[keyPhone].(string)
	phone = strings.NewReplacer("+", "", " ", "", "-", "").Replace(phone)
	if !ok || !digits.MatchString(phone) {
		return nil, nil, "", domain.Invalid("config."+keyPhone,
			"phone is the number that may be linked, with its country code, for example +49 151 23456789. Leave it out to link any.")
	}
	public[keyPhone] = phone
	return public, nil, phone, nil
}
