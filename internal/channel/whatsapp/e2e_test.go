package whatsapp

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

func text(want string) func(domain.Message) bool {
	return func(m domain.Message) bool { return m.Content == want }
}

func TestLinkAndTalk(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		c := s.linked(ourNumber)
		assert.Equal(t, "Connected as +"+ourNumber+".", c.Status.Reason)
		assert.Equal(t, "w1", c.Status.Worker)
		assert.Equal(t, map[string]string{keyPhone: ourNumber}, c.Config)

		id := s.says(whatsapp.Incoming{From: marta, Text: "Do you have cacti?"})
		got := s.row(id, nil)
		assert.Equal(t, domain.TypeText, got.Type)
		assert.Equal(t, "Do you have cacti?", got.Content)
		assert.Equal(t, "Marta Lind", got.SenderName)
		assert.False(t, got.FromMe)
		chat := s.chat(got.ChatID)
		assert.Equal(t, "Marta Lind", chat.Contact.Name)
		assert.Equal(t, marta, chat.Contact.Phone)
		assert.Equal(t, 1, chat.UnreadCount)
		require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))

		sent := s.send(inbox.SendInput{ChatID: got.ChatID, Content: "Twelve kinds.", ClientMessageID: "1"})
		seen := s.shown(ourNumber, marta, func(m whatsapp.Message) bool { return m.Text == "Twelve kinds." })
		done := s.status(sent.ID, domain.StatusDelivered)
		assert.Equal(t, seen.ID, done.ExternalID)
		require.NoError(t, s.sim.Read(ourNumber, marta, seen.ID))
		s.status(sent.ID, domain.StatusRead)

		// The code was shown to the admin who asked, and to nobody else.
		s.mu.Lock()
		defer s.mu.Unlock()
		require.NotEmpty(t, s.told)
		var code inbox.LinkCode
		require.NoError(t, json.Unmarshal(s.told[0].data, &code))
		assert.Equal(t, domain.EventChannelQR, s.told[0].event)
		assert.Equal(t, s.who.UserID, s.told[0].user)
		assert.Equal(t, c.ID, code.ChannelID)
		for _, e := range s.events {
			assert.NotContains(t, string(e.Data), "linked_devices", e.Name)
		}
	})
}
