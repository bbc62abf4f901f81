package waba

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

func wholeConfig() map[string]any {
	return map[string]any{
		"phoneNumberId": "106540352242922", "businessAccountId": " 102290129340398 ", "accessToken": "EAAx\n",
		"appSecret": "secret", "verifyToken": "word",
	}
}

func TestParseConfig(t *testing.T) {
	public, secrets, key, err := ParseConfig(wholeConfig())
	require.NoError(t, err)
	assert.Equal(t, "106540352242922", key)
	assert.Equal(t, map[string]string{"phoneNumberId": "106540352242922", "businessAccountId": "102290129340398"}, public)
	assert.Equal(t, map[string]string{"accessToken": "EAAx", "appSecret": "secret", "verifyToken": "word"}, secrets)

	without := wholeConfig()
	delete(without, "businessAccountId")
	public, _, _, err = ParseConfig(without)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"phoneNumberId": "106540352242922"}, public)
}

func TestParseConfigRefuses(t *testing.T) {
	cases := []struct {
		key   string
		value any
		says  string
	}{
		{"phoneNumberId", nil, "is missing"},
		{"phoneNumberId", "  ", "is missing"},
		{"phoneNumberId", "+15550783881", "digits only"},
		{"phoneNumberId", 106540352242922.0, "must be text"},
		{"phoneNumberId", strings.Repeat("1", 33), "longer than"},
		{"businessAccountId", "x", "digits only"},
		{"accessToken", "", "is missing"},
		{"accessToken", "EAA\r\nX-Evil: 1", "no spaces"},
		{"accessToken", strings.Repeat("x", 4097), "longer than"},
		{"appSecret", []any{"x"}, "must be text"},
		{"appSecret", "geheim🌵", "beyond ASCII"},
		{"verifyToken", nil, "is missing"},
		{"verify_token", "word", "has no setting"},
		{"organizationId", 5, "has no setting"},
	}
	for _, c := range cases {
		raw := wholeConfig()
		raw[c.key] = c.value
		_, _, _, err := ParseConfig(raw)
		var e *domain.Error
		require.ErrorAs(t, err, &e, c.key)
		assert.Equal(t, domain.CodeInvalid, e.Code)
		assert.Equal(t, "config."+c.key, e.Field)
		assert.Contains(t, e.Message, c.says)
		assert.NotContains(t, e.Message, "Evil", "secrets are not repeated")
	}
	_, _, _, err := ParseConfig(nil)
	require.Error(t, err)
}

func TestMark(t *testing.T) {
	for _, id := range []int64{1, 42, math.MaxInt64} {
		got, attempt, ok := ParseMark(Mark(id, 3))
		require.True(t, ok)
		assert.Equal(t, id, got)
		assert.Equal(t, 3, attempt)
	}
	for _, mark := range []string{"", "sb:", "sb:1", "sb:1:", "sb::1", "sb:0:1", "sb:1:0", "sb:-1:1", "sb:1:1:1", "sb:+1:1", " sb:1:1", "sb:99999999999999999999:1", "SB:1:1", commandMark(5)} {
		_, _, ok := ParseMark(mark)
		assert.False(t, ok, mark)
	}
	assert.True(t, isCommandMark(commandMark(5)))
	assert.False(t, isCommandMark(Mark(5, 1)))
}

func TestAddresses(t *testing.T) {
	assert.Equal(t, recipient{Type: "individual", To: "16505551234"}, recipientOf("16505551234"))
	assert.Equal(t, recipient{Type: "individual", Recipient: "US.13491208655302741918"}, recipientOf("US.13491208655302741918"))
	assert.Equal(t, recipient{Type: "individual", Recipient: "US.ENT.118157"}, recipientOf("US.ENT.118157"))
	assert.Equal(t, recipient{Type: "group", To: "Y2FwaV9ncm91cDox"}, recipientOf("Y2FwaV9ncm91cDox"))

	peer, err := PeerOfPhone(" +1 (650) 555-1234 ")
	require.NoError(t, err)
	assert.Equal(t, domain.Peer{
		Address: customer, Kind: domain.ChatDirect,
		Identities: []domain.Identity{{Kind: domain.IdentityPhone, Value: customer}},
	}, peer)
	for _, phone := range []string{"", "0049301234567", "030 1234567", "12345", "1234567890123456", "+1650555x234", "१२३४५६७८"} {
		_, err := PeerOfPhone(phone)
		var e *domain.Error
		require.ErrorAs(t, err, &e, phone)
		assert.Equal(t, "phone", e.Field)
	}
}
