package account

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"switchboard/internal/auth"
	"switchboard/internal/domain"
)

// Limits of what users write, in characters; of e-mail addresses in bytes.
const (
	MaxName  = 200
	MaxEmail = 254
)

// cleanName trims a name and checks it; field is what the caller calls it.
func cleanName(field, name string) (string, error) {
	name = strings.TrimSpace(name)
	switch {
	case !strings.ContainsFunc(name, isVisible):
		return "", domain.Invalid(field, "The name is empty.")
	case utf8.RuneCountInString(name) > MaxName:
		return "", domain.Invalid(field, fmt.Sprintf("The name is too long: use at most %d characters.", MaxName))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, isDeceptive):
		return "", domain.Invalid(field, "The name holds characters that cannot be shown.")
	default:
		return name, nil
	}
}

func isVisible(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }

// isDeceptive finds control characters, and those that turn the direction of the text around them. Other invisible ones,
// such as the joiners in emoji and in Persian, belong to names.
func isDeceptive(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// cleanEmail brings an address into the one form in which it is stored: lower case, nothing but the address.
func cleanEmail(email string) (string, error) {
	text := utf8.ValidString(email) // lower case would hide it
	email = strings.ToLower(strings.TrimSpace(email))
	if len(email) > MaxEmail {
		return "", domain.Invalid("email", fmt.Sprintf("The e-mail address is too long: use at most %d characters.", MaxEmail))
	}
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || !text || strings.ContainsFunc(email, isOdd) {
		return "", domain.Invalid("email", "The e-mail address is not valid; it should look like name@example.com.")
	}
	return email, nil
}

// isOdd finds what RFC 5322 allows between quotes and nobody's address has.
func isOdd(r rune) bool { return r == '"' || unicode.IsControl(r) || unicode.IsSpace(r) }

// checkPassword is auth.CheckPassword for a field of another name.
func checkPassword(field, password string) error {
	err := auth.CheckPassword(password)
	var invalid *domain.Error
	if errors.As(err, &invalid) {
		return domain.Invalid(field, invalid.Message)
	}
	return err
}

func checkRole(role domain.Role) error {
	if !role.Valid() {
		return domain.Invalid("role", "The role must be admin or operator.")
	}
	return nil
}

func emailTaken() error {
	e := domain.NewError(domain.CodeConflict, "Another user has this e-mail address already.")
	e.Field = "email"
	return e
}
