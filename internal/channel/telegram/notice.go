package telegram

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"
)

// notices are service messages that say one thing, by their field.
var notices = map[string]string{
	"new_chat_photo":                  "The group has a new picture.",
	"delete_chat_photo":               "The group's picture was removed.",
	"group_chat_created":              "The group was created.",
	"supergroup_chat_created":         "The group was created.",
	"channel_chat_created":            "The channel was created.",
	"forum_topic_closed":              "A topic was closed.",
	"forum_topic_reopened":            "A topic was opened again.",
	"general_forum_topic_hidden":      "The general topic was hidden.",
	"general_forum_topic_unhidden":    "The general topic is shown again.",
	"video_chat_scheduled":            "A video chat was announced.",
	"video_chat_started":              "A video chat began.",
	"video_chat_ended":                "The video chat ended.",
	"video_chat_participants_invited": "People were invited to the video chat.",
	"voice_chat_scheduled":            "A video chat was announced.",
	"voice_chat_started":              "A video chat began.",
	"voice_chat_ended":                "The video chat ended.",
	"voice_chat_participants_invited": "People were invited to the video chat.",
	"proximity_alert_triggered":       "Two people who share their location are close to each other.",
	"write_access_allowed":            "The customer allowed this bot to write.",
	"connected_website":               "The customer signed in to a website with Telegram.",
	"passport_data":                   "The customer shared Telegram Passport data, which is not read here.",
	"chat_shared":                     "The customer shared a chat with this bot.",
	"boost_added":                     "The group was boosted.",
	"chat_background_set":             "The chat has a new background.",
	"giveaway_created":                "A giveaway began.",
	"giveaway_completed":              "A giveaway ended.",
	"giveaway_winners":                "The winners of a giveaway were drawn.",
	"checklist_tasks_done":            "Tasks of a checklist were ticked or unticked.",
	"checklist_tasks_added":           "Tasks were added to a checklist.",
	"paid_message_price_changed":      "The price of paid messages changed.",
	"direct_message_price_changed":    "The price of direct messages changed.",
	"gift":                            "A gift was sent.",
	"unique_gift":                     "A gift was sent.",
	"suggested_post_approved":         "A suggested post was approved.",
	"suggested_post_approval_failed":  "A suggested post could not be approved.",
	"suggested_post_declined":         "A suggested post was declined.",
	"suggested_post_paid":             "A suggested post was paid.",
	"suggested_post_refunded":         "A suggested post was refunded.",
	"chat_owner_left":                 "The group's owner left.",
	"chat_owner_changed":              "The group has a new owner.",
}

// notice is the sentence of a service message. is says that m is one; an empty
// sentence says that there is nothing to tell.
func (m *message) notice(bot int64) (sentence string, is bool) {
	who := "Somebody"
	if m.From != nil {
		if name := fullName(m.From.FirstName, m.From.LastName, m.From.UserName); name != "" {
			who = name
		}
	}
	switch {
	case len(m.NewChatMembers) > 0:
		return joined(who, m.From, m.NewChatMembers, bot), true
	case m.LeftChatMember != nil:
		return left(who, m.From, m.LeftChatMember, bot), true
	case m.NewChatTitle != "":
		return fmt.Sprintf("%s named the group %q.", who, cut(clean(m.NewChatTitle), maxName)), true
	case m.MessageAutoDeleteTimerChanged != nil:
		return autoDelete(m.MessageAutoDeleteTimerChanged.MessageAutoDeleteTime), true
	case m.Pinned != nil:
		return who + " pinned a message" + excerpt(m.Pinned) + ".", true
	case m.TopicCreated != nil:
		return fmt.Sprintf("%s opened the topic %q.", who, cut(clean(m.TopicCreated.Name), maxName)), true
	case m.TopicEdited != nil && m.TopicEdited.Name != "":
		return fmt.Sprintf("%s named the topic %q.", who, cut(clean(m.TopicEdited.Name), maxName)), true
	case m.TopicEdited != nil:
		return who + " changed a topic.", true
	case m.SuccessfulPayment != nil:
		return "The customer paid " + clean(price(m.SuccessfulPayment.TotalAmount, m.SuccessfulPayment.Currency)) + ".", true
	case m.RefundedPayment != nil:
		return "A payment of " + clean(price(m.RefundedPayment.Total, m.RefundedPayment.Currency)) + " was refunded.", true
	}
	for _, field := range slices.Sorted(maps.Keys(m.fields)) {
		if sentence, known := notices[field]; known {
			return sentence, true
		}
	}
	return "", false
}

func joined(who string, by *tgbotapi.User, members []tgbotapi.User, bot int64) string {
	var names []string
	alone := false
	for _, u := range members {
		if u.ID == bot {
			continue // my_chat_member tells of it
		}
		names = append(names, fullName(u.FirstName, u.LastName, u.UserName))
		alone = len(members) == 1 && by != nil && by.ID == u.ID
	}
	switch {
	case len(names) == 0:
		return ""
	case alone:
		return who + " joined the group."
	default:
		return who + " added " + strings.Join(names, ", ") + "."
	}
}

func left(who string, by, member *tgbotapi.User, bot int64) string {
	switch {
	case member.ID == bot:
		return ""
	case by == nil || by.ID == member.ID:
		return fullName(member.FirstName, member.LastName, member.UserName) + " left the group."
	default:
		return who + " removed " + fullName(member.FirstName, member.LastName, member.UserName) + "."
	}
}

func autoDelete(seconds int) string {
	if seconds <= 0 {
		return "Messages of this chat are not deleted by themselves any more."
	}
	const day = 24 * time.Hour
	d := time.Duration(min(seconds, 1<<30)) * time.Second
	after := d.String()
	switch {
	case d == day:
		after = "a day"
	case d%day == 0:
		after = fmt.Sprintf("%d days", d/day)
	}
	return "Telegram deletes new messages of this chat after " + after + "."
}

// excerpt is the beginning of a message, for a sentence about it.
func excerpt(m *message) string {
	text := m.Text
	if text == "" {
		text = m.Caption
	}
	if text = strings.Join(strings.Fields(clean(text)), " "); text == "" {
		return ""
	}
	return ": " + cut(text, 60)
}
