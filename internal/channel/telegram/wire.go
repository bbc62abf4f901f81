package telegram

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"

	"switchboard/internal/domain"
)

// The library's types read what it knows; these add what came later. Unknown
// fields are ignored: Telegram adds some every few weeks.

// allowedUpdates are the kinds of updates that are asked for.
var allowedUpdates = mustJSON([]string{
	"message", "edited_message", "channel_post", "edited_channel_post", "callback_query", "message_reaction", "my_chat_member",
})

func mustJSON(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err) // a constant of ours
	}
	return string(encoded)
}

// update is what getUpdates hands out, one field besides the id set.
type update struct {
	Message           json.RawMessage             `json:"message"`
	EditedMessage     json.RawMessage             `json:"edited_message"`
	ChannelPost       json.RawMessage             `json:"channel_post"`
	EditedChannelPost json.RawMessage             `json:"edited_channel_post"`
	Callback          *callback                   `json:"callback_query"`
	Reaction          *reactionUpdate             `json:"message_reaction"`
	Membership        *tgbotapi.ChatMemberUpdated `json:"my_chat_member"`
}

// message is the library's with newer fields, and with some replaced by wider
// ones.
type message struct {
	tgbotapi.Message

	ThreadID      int            `json:"message_thread_id"`
	TopicMessage  bool           `json:"is_topic_message"`
	ReplyTo       *message       `json:"reply_to_message"`
	ExternalReply *externalReply `json:"external_reply"`
	Quote         *textQuote     `json:"quote"`
	Sticker       *sticker       `json:"sticker"`
	Pinned        *message       `json:"pinned_message"`
	Checklist     *checklist     `json:"checklist"`

	TopicCreated *topic `json:"forum_topic_created"`
	TopicEdited  *topic `json:"forum_topic_edited"`
	WebAppData   *struct {
		Data   string `json:"data"`
		Button string `json:"button_text"`
	} `json:"web_app_data"`
	UsersShared *struct {
		Users []struct {
			FirstName string `json:"first_name"`
			LastName  string `json:"last_name"`
			Username  string `json:"username"`
		} `json:"users"`
	} `json:"users_shared"`
	RefundedPayment *struct {
		Currency string `json:"currency"`
		Total    int    `json:"total_amount"`
	} `json:"refunded_payment"`

	fields map[string]json.RawMessage
}

type topic struct {
	Name string `json:"name"`
}

// sticker tells how it moves, too.
type sticker struct {
	tgbotapi.Sticker

	Video bool `json:"is_video"`
}

type textQuote struct {
	Text string `json:"text"`
}

// externalReply is a message of another chat, or topic, that is answered.
type externalReply struct {
	Origin struct {
		SenderUser     *tgbotapi.User `json:"sender_user"`
		SenderUserName string         `json:"sender_user_name"`
		SenderChat     *tgbotapi.Chat `json:"sender_chat"`
		Chat           *tgbotapi.Chat `json:"chat"`
	} `json:"origin"`
}

type checklist struct {
	Title string `json:"title"`
	Tasks []struct {
		Text string `json:"text"`
		Done int64  `json:"completion_date"`
	} `json:"tasks"`
}

type callback struct {
	ID      string         `json:"id"`
	From    *tgbotapi.User `json:"from"`
	Message *message       `json:"message"`
	Data    string         `json:"data"`
	Game    string         `json:"game_short_name"`
}

type reactionUpdate struct {
	Chat      *tgbotapi.Chat  `json:"chat"`
	MessageID int             `json:"message_id"`
	User      *tgbotapi.User  `json:"user"`
	ActorChat *tgbotapi.Chat  `json:"actor_chat"`
	Date      int64           `json:"date"`
	New       []reactionEmoji `json:"new_reaction"`
}

type reactionEmoji struct {
	Type  string `json:"type"`
	Emoji string `json:"emoji"`
}

// decode is json.Unmarshal with errors that tell no content, since they are
// stored and logged.
func decode(raw json.RawMessage, into any) error {
	err := json.Unmarshal(raw, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		value, _, _ := strings.Cut(wrong.Value, " ") // "number 12" tells content
		field := wrong.Field
		if field == "" {
			field = "it"
		}
		return fmt.Errorf("%s is %s where %s is wanted", field, value, kindOf(wrong.Type))
	default:
		return errors.New("it is not valid JSON")
	}
}

func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	default:
		return "a number"
	}
}

// latest is the end of the year 2100: a later time is a fault.
const latest = 4102444800

// at reads Telegram's times, Unix seconds.
func at(seconds int64) (domain.Time, error) {
	if seconds < 1 || seconds > latest {
		return 0, errors.New("date is not a time in Unix seconds")
	}
	return domain.Time(seconds * 1000), nil
}

func readMessage(raw json.RawMessage) (*message, error) {
	m := &message{}
	if err := decode(raw, m); err != nil {
		return nil, err
	}
	if err := decode(raw, &m.fields); err != nil {
		return nil, err
	}
	return m, m.check()
}

// check looks for what every message has.
func (m *message) check() error {
	switch {
	case m.Chat == nil || m.Chat.ID == 0:
		return errors.New("chat is missing")
	case m.MessageID <= 0:
		return errors.New("message_id is missing")
	}
	return nil
}
