package telegram

import (
	"encoding/json"
	"slices"

	"switchboard/internal/simulator/console"
)

// The types of this file have the JSON of the Bot API (https://core.telegram.org/bots/api#available-types), with the
// fields that the simulator fills.

// User is a person or a bot.
type User struct {
	ID           int64  `json:"id"`
	IsBot        bool   `json:"is_bot"`
	FirstName    string `json:"first_name"`
	LastName     string `json:"last_name,omitempty"`
	Username     string `json:"username,omitempty"`
	LanguageCode string `json:"language_code,omitempty"`
}

// Kinds of chats.
const (
	ChatPrivate    = "private"
	ChatGroup      = "group"
	ChatSupergroup = "supergroup"
	ChatChannel    = "channel"
)

// Chat is a private chat, a group, a supergroup or a channel.
type Chat struct {
	ID        int64  `json:"id"`
	Type      string `json:"type"`
	Title     string `json:"title,omitempty"`
	Username  string `json:"username,omitempty"`
	FirstName string `json:"first_name,omitempty"`
	LastName  string `json:"last_name,omitempty"`
}

// Entity marks a part of a text; Offset and Length count UTF-16 code units.
type Entity struct {
	Type          string `json:"type"`
	Offset        int    `json:"offset"`
	Length        int    `json:"length"`
	URL           string `json:"url,omitempty"`
	User          *User  `json:"user,omitempty"`
	Language      string `json:"language,omitempty"`
	CustomEmojiID string `json:"custom_emoji_id,omitempty"`
}

// PhotoSize is one size of a photo.
type PhotoSize struct {
	FileID       string `json:"file_id"`
	FileUniqueID string `json:"file_unique_id"`
	Width        int    `json:"width"`
	Height       int    `json:"height"`
	FileSize     int64  `json:"file_size,omitempty"`

	file int64
}

// Media is an animation, audio, document, sticker, video, video note or voice message.
type Media struct {
	FileID       string     `json:"file_id"`
	FileUniqueID string     `json:"file_unique_id"`
	Type         string     `json:"type,omitempty"` // stickers: regular
	Width        int        `json:"width,omitempty"`
	Height       int        `json:"height,omitempty"`
	Length       int        `json:"length,omitempty"`   // video notes: width and height
	Duration     *int       `json:"duration,omitempty"` // seconds
	IsAnimated   *bool      `json:"is_animated,omitempty"`
	IsVideo      *bool      `json:"is_video,omitempty"`
	Emoji        string     `json:"emoji,omitempty"`
	SetName      string     `json:"set_name,omitempty"`
	Performer    string     `json:"performer,omitempty"`
	Title        string     `json:"title,omitempty"`
	Thumbnail    *PhotoSize `json:"thumbnail,omitempty"`
	FileName     string     `json:"file_name,omitempty"`
	MIMEType     string     `json:"mime_type,omitempty"`
	FileSize     int64      `json:"file_size,omitempty"`

	file int64
}

// Location is a point on the map.
type Location struct {
	Latitude           float64 `json:"latitude"`
	Longitude          float64 `json:"longitude"`
	HorizontalAccuracy float64 `json:"horizontal_accuracy,omitempty"`
	LivePeriod         int     `json:"live_period,omitempty"` // seconds
	Heading            int     `json:"heading,omitempty"`
}

// Venue is a place with a name.
type Venue struct {
	Location     Location `json:"location"`
	Title        string   `json:"title"`
	Address      string   `json:"address"`
	FoursquareID string   `json:"foursquare_id,omitempty"`
}

// Contact is a shared phone contact.
type Contact struct {
	PhoneNumber string `json:"phone_number"`
	FirstName   string `json:"first_name"`
	LastName    string `json:"last_name,omitempty"`
	UserID      int64  `json:"user_id,omitempty"`
	VCard       string `json:"vcard,omitempty"`
}

// PollOption is one answer of a Poll.
type PollOption struct {
	Text       string `json:"text"`
	VoterCount int    `json:"voter_count"`
}

// Poll is a poll or a quiz.
type Poll struct {
	ID                    string       `json:"id"`
	Question              string       `json:"question"`
	Options               []PollOption `json:"options"`
	TotalVoterCount       int          `json:"total_voter_count"`
	IsClosed              bool         `json:"is_closed"`
	IsAnonymous           bool         `json:"is_anonymous"`
	Type                  string       `json:"type"` // regular or quiz
	AllowsMultipleAnswers bool         `json:"allows_multiple_answers"`
	CorrectOptionID       *int         `json:"correct_option_id,omitempty"`
	Explanation           string       `json:"explanation,omitempty"`
}

// Dice is an animated emoji with a random value.
type Dice struct {
	Emoji string `json:"emoji"`
	Value int    `json:"value"`
}

// Quote is the part of the replied message that the reply quotes.
type Quote struct {
	Text     string `json:"text"`
	Position int    `json:"position"`
	IsManual bool   `json:"is_manual,omitempty"`
}

// ForwardOrigin says where a forwarded message is from.
type ForwardOrigin struct {
	Type           string `json:"type"` // user, hidden_user, chat or channel
	Date           int64  `json:"date"`
	SenderUser     *User  `json:"sender_user,omitempty"`
	SenderUserName string `json:"sender_user_name,omitempty"`
	SenderChat     *Chat  `json:"sender_chat,omitempty"`
	Chat           *Chat  `json:"chat,omitempty"`
	MessageID      int64  `json:"message_id,omitempty"`
}

// Reaction is an emoji on a message.
type Reaction struct {
	Type          string `json:"type"` // emoji or custom_emoji
	Emoji         string `json:"emoji,omitempty"`
	CustomEmojiID string `json:"custom_emoji_id,omitempty"`
}

// Message is a message of any type.
type Message struct {
	MessageID          int64           `json:"message_id"`
	MessageThreadID    int64           `json:"message_thread_id,omitempty"`
	From               *User           `json:"from,omitempty"`
	SenderChat         *Chat           `json:"sender_chat,omitempty"`
	Chat               Chat            `json:"chat"`
	Date               int64           `json:"date"`
	ForwardOrigin      *ForwardOrigin  `json:"forward_origin,omitempty"`
	IsTopicMessage     bool            `json:"is_topic_message,omitempty"`
	ReplyToMessage     *Message        `json:"reply_to_message,omitempty"`
	ExternalReply      json.RawMessage `json:"external_reply,omitempty"`
	Quote              *Quote          `json:"quote,omitempty"`
	EditDate           int64           `json:"edit_date,omitempty"`
	HasProtected       bool            `json:"has_protected_content,omitempty"`
	MediaGroupID       string          `json:"media_group_id,omitempty"`
	AuthorSignature    string          `json:"author_signature,omitempty"`
	Text               string          `json:"text,omitempty"`
	Entities           []Entity        `json:"entities,omitempty"`
	LinkPreviewOptions json.RawMessage `json:"link_preview_options,omitempty"`
	Animation          *Media          `json:"animation,omitempty"`
	Audio              *Media          `json:"audio,omitempty"`
	Document           *Media          `json:"document,omitempty"`
	Photo              []PhotoSize     `json:"photo,omitempty"`
	Sticker            *Media          `json:"sticker,omitempty"`
	Video              *Media          `json:"video,omitempty"`
	VideoNote          *Media          `json:"video_note,omitempty"`
	Voice              *Media          `json:"voice,omitempty"`
	Caption            string          `json:"caption,omitempty"`
	CaptionEntities    []Entity        `json:"caption_entities,omitempty"`
	HasMediaSpoiler    bool            `json:"has_media_spoiler,omitempty"`
	Contact            *Contact        `json:"contact,omitempty"`
	Dice               *Dice           `json:"dice,omitempty"`
	Poll               *Poll           `json:"poll,omitempty"`
	Venue              *Venue          `json:"venue,omitempty"`
	Location           *Location       `json:"location,omitempty"`
	NewChatMembers     []User          `json:"new_chat_members,omitempty"`
	LeftChatMember     *User           `json:"left_chat_member,omitempty"`
	NewChatTitle       string          `json:"new_chat_title,omitempty"`
	MigrateToChatID    int64           `json:"migrate_to_chat_id,omitempty"`
	MigrateFromChatID  int64           `json:"migrate_from_chat_id,omitempty"`
	PinnedMessage      *Message        `json:"pinned_message,omitempty"`
	ReplyMarkup        json.RawMessage `json:"reply_markup,omitempty"`

	extra map[string]json.RawMessage // fields of content that this type does not know
}

// MarshalJSON adds the fields that the type does not know.
func (m Message) MarshalJSON() ([]byte, error) {
	type plain Message
	b, err := console.MarshalPlain(plain(m))
	if err != nil || len(m.extra) == 0 {
		return b, err
	}
	more, err := console.MarshalPlain(m.extra)
	if err != nil {
		return nil, err
	}
	b[len(b)-1] = ','
	return append(b, more[1:]...), nil
}

// media lists the message's files but photos.
func (m *Message) media() []**Media {
	return []**Media{&m.Animation, &m.Audio, &m.Document, &m.Sticker, &m.Video, &m.VideoNote, &m.Voice}
}

// forBot is a copy with the bot's own file ids. An answer to an answer is not shown, as Telegram does not.
func (m *Message) forBot(bot int64) *Message {
	c := *m
	for _, p := range c.media() {
		if *p == nil {
			continue
		}
		own := **p
		own.FileID = fileID(bot, own.file)
		if own.Thumbnail != nil {
			thumb := *own.Thumbnail
			thumb.FileID = fileID(bot, thumb.file)
			own.Thumbnail = &thumb
		}
		*p = &own
	}
	c.Photo = slices.Clone(m.Photo)
	for i := range c.Photo {
		c.Photo[i].FileID = fileID(bot, c.Photo[i].file)
	}
	for _, p := range []**Message{&c.ReplyToMessage, &c.PinnedMessage} {
		if *p != nil {
			inner := (*p).forBot(bot)
			inner.ReplyToMessage = nil
			*p = inner
		}
	}
	if m.Poll != nil {
		poll := *m.Poll
		poll.Options = slices.Clone(poll.Options)
		c.Poll = &poll
	}
	return &c
}

// kind names the content.
func (m *Message) kind() string {
	for name, has := range map[string]bool{
		"text": m.Text != "", "animation": m.Animation != nil, "audio": m.Audio != nil, "photo": m.Photo != nil,
		"sticker": m.Sticker != nil, "video": m.Video != nil, "video_note": m.VideoNote != nil, "voice": m.Voice != nil,
		"document": m.Document != nil && m.Animation == nil, "contact": m.Contact != nil, "dice": m.Dice != nil,
		"poll": m.Poll != nil, "venue": m.Venue != nil, "location": m.Location != nil && m.Venue == nil,
		"new_chat_members": m.NewChatMembers != nil, "left_chat_member": m.LeftChatMember != nil,
		"new_chat_title": m.NewChatTitle != "", "migrate_to_chat_id": m.MigrateToChatID != 0,
		"migrate_from_chat_id": m.MigrateFromChatID != 0, "pinned_message": m.PinnedMessage != nil,
	} {
		if has {
			return name
		}
	}
	return "raw"
}

func (m *Message) service() bool {
	switch m.kind() {
	case "new_chat_members", "left_chat_member", "new_chat_title", "migrate_to_chat_id", "migrate_from_chat_id", "pinned_message":
		return true
	}
	return false
}

// hasCaption says whether the content takes a caption.
func (m *Message) hasCaption() bool {
	return m.Animation != nil || m.Audio != nil || m.Document != nil || m.Photo != nil || m.Video != nil || m.Voice != nil
}
