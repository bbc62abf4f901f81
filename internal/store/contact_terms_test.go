package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestContactTerms(t *testing.T) {
	assert.Equal(t, []string{"4915112345678", "<8765432115194", "ada", "garcia", "jose"}, contactTerms("José  García", "Ada", "4915112345678"))
	assert.Empty(t, contactTerms(" – ", "", ""))
	assert.Equal(t, []string{"иванов"}, contactTerms("ИВАНОВ", "", ""))
	many := contactTerms(strings.Repeat("a b c d e f g h i j k l m n o p q r s t u v w x y z ", 3)+strings.Repeat("ж", 500), "", "123456789")
	assert.Len(t, many, maxTerms)
	assert.Contains(t, many, "123456789", "a long name does not push the number out")
}

// finds reports whether a search would find a contact, as the database decides it.
func finds(query string, terms []string) bool {
	words := queryPrefixes(query)
	for _, word := range words {
		hit := false
		for _, prefix := range word {
			for _, term := range terms {
				hit = hit || term >= prefix && term < prefix+afterPrefix
			}
		}
		if !hit {
			return false
		}
	}
	return len(words) > 0
}

func TestSearch(t *testing.T) {
	terms := contactTerms("Zoë van der Berg", "zoe_b.99", "4915112345678")
	for query, want := range map[string]bool{
		"zoe": true, "ZOË": true, "be zo": true, "berg,zo": true, "@zoe_b": true, "oe": false, "zoe x": false, "va d": true,
		"4915112345678": true, "+49 (151) 12345": true, "49151": true, "0151 12345678": true, "0049 151 123": true, "5678": true,
		"12345678": true, "345": false, "8765": false, "<8765": false, "": false, " - ": false, "zoe 5678": true, "99": true,
	} {
		assert.Equal(t, want, finds(query, terms), "%q", query)
	}
	assert.LessOrEqual(t, len(queryPrefixes("a b c d e f g h i j")), maxQueryWords)
}

func FuzzContactTerms(f *testing.F) {
	f.Add("José García", "ada", "4915112345678", "jos")
	f.Add("\xff\u0301İ", "_", "+", "\U0010ffff")
	f.Fuzz(func(t *testing.T, name, username, phone, query string) {
		terms := contactTerms(name, username, phone)
		if len(terms) > maxTerms {
			t.Fatalf("%d terms", len(terms))
		}
		if len(queryPrefixes(query)) > maxQueryWords {
			t.Fatalf("%d words", len(queryPrefixes(query)))
		}
		if words := searchWords(name); len(words) > 0 && len(words) < maxQueryWords && len(terms) < maxTerms {
			if _, isPhone := phoneQuery(name); !isPhone && !finds(name, terms) {
				t.Fatalf("%q does not find itself in %q", name, terms)
			}
		}
	})
}
