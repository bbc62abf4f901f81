package store

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const (
	// maxTerms bounds how many words a contact is found by, and maxTermRunes
	// how much of each: what lies behind is not searched.
	maxTerms     = 24
	maxTermRunes = 40
	// maxQueryWords bounds what one search costs.
	maxQueryWords = 6
	// minNationalDigits is from how many digits on leading zeros are taken for
	// a trunk or an international prefix instead of for a part of the number.
	minNationalDigits = 5
	// fromEnd marks a phone number that is stored back to front; no word
	// begins with it.
	fromEnd = "<"
	// afterPrefix is appended to a prefix to make the end of its range: no
	// character sorts behind it.
	afterPrefix = "\U0010FFFF"
)

// contactTerms returns what a contact is found by, sorted: the words of its
// name and user name, and its phone number from both ends.
func contactTerms(name, username, phone string) []string {
	terms := append(searchWords(name), searchWords(username)...)
	if digits := onlyDigits(phone); digits != "" {
		// In front, so that no long name pushes them out.
		terms = append([]string{digits, fromEnd + reversed(digits)}, terms...)
	}
	seen := make(map[string]bool, len(terms))
	kept := terms[:0]
	for _, term := range terms {
		if !seen[term] && len(kept) < maxTerms {
			seen[term] = true
			kept = append(kept, term)
		}
	}
	slices.Sort(kept)
	return kept
}

// prefixes is what one word of a search may match: any of these.
type prefixes []string

// queryPrefixes splits a search into its words; a contact must match each.
func queryPrefixes(query string) []prefixes {
	if digits, isPhone := phoneQuery(query); isPhone {
		return []prefixes{{digits, fromEnd + reversed(digits)}}
	}
	var words []prefixes
	for _, word := range searchWords(query) {
		alternatives := prefixes{word}
		if word == onlyDigits(word) {
			alternatives = append(alternatives, fromEnd+reversed(word))
		}
		words = append(words, alternatives)
		if len(words) == maxQueryWords {
			break
		}
	}
	return words
}

// phoneQuery recognises a phone number, however it is grouped, and strips what
// people dial before it.
func phoneQuery(query string) (digits string, isPhone bool) {
	for _, r := range query {
		switch {
		case r >= '0' && r <= '9':
		case unicode.IsSpace(r), strings.ContainsRune("+-()./", r):
		default:
			return "", false
		}
	}
	digits = onlyDigits(query)
	if national := strings.TrimLeft(digits, "0"); len(national) >= minNationalDigits {
		digits = national
	}
	return digits, digits != ""
}

// searchWords are the letters and digits of text in one spelling: lower case,
// without accents, compatibility forms resolved.
func searchWords(text string) []string {
	var folded strings.Builder
	for _, r := range norm.NFKD.String(text) {
		switch {
		case unicode.Is(unicode.Mn, r): // an accent: "José" is found by "jose"
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
			folded.WriteRune(unicode.ToLower(r))
		default:
			folded.WriteByte(' ')
		}
	}
	words := strings.Fields(folded.String())
	for i, word := range words {
		if runes := []rune(word); len(runes) > maxTermRunes {
			words[i] = string(runes[:maxTermRunes])
		}
	}
	return words
}

func onlyDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// indexContact makes a contact findable under what it is called now. Whoever
// makes or renames a contact calls it, in the same transaction.
func (tx *Tx) indexContact(contactID int64, name, username, phone string) error {
	var present []string
	err := tx.db.Raw("SELECT term FROM contact_terms WHERE contact_id = ?", contactID).Scan(&present).Error
	if err != nil {
		return fmt.Errorf("read the terms of contact %d: %w", contactID, err)
	}
	wanted := contactTerms(name, username, phone)
	for _, term := range wanted {
		if slices.Contains(present, term) {
			continue
		}
		const insert = "INSERT INTO contact_terms (organization_id, term, contact_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
		if err := tx.db.Exec(insert, tx.organizationID, term, contactID).Error; err != nil {
			return fmt.Errorf("index contact %d: %w", contactID, err)
		}
	}
	for _, term := range present {
		if slices.Contains(wanted, term) {
			continue
		}
		const remove = "DELETE FROM contact_terms WHERE organization_id = ? AND term = ? AND contact_id = ?"
		if err := tx.db.Exec(remove, tx.organizationID, term, contactID).Error; err != nil {
			return fmt.Errorf("index contact %d: %w", contactID, err)
		}
	}
	return nil
}
