package waba

import (
	"encoding/json"

	"switchboard/internal/domain"
)

var statuses = map[loose]domain.MessageStatus{
	"sent":      domain.StatusSent,
	"delivered": domain.StatusDelivered,
	"read":      domain.StatusRead,
	"played":    domain.StatusRead, // a voice message that was listened to
	"failed":    domain.StatusFailed,
}

// convertStatus turns a status of a webhook into ours. skipped names one that
// is of no concern to us: of a payment, of a reaction, or a word that is new.
func convertStatus(raw json.RawMessage) (inbound domain.Inbound, skipped string, err error) {
	var s struct {
		ID          loose           `json:"id"`
		Status      loose           `json:"status"`
		Type        loose           `json:"type"`
		Timestamp   loose           `json:"timestamp"`
		RecipientID loose           `json:"recipient_id"`
		RecipientUs loose           `json:"recipient_user_id"`
		Mark        loose           `json:"biz_opaque_callback_data"`
		Errors      json.RawMessage `json:"errors"`
	}
	if err := decode(raw, &s); err != nil {
		return domain.Inbound{}, "", err
	}
	if s.Type != "" && s.Type != "message" {
		return domain.Inbound{}, string(s.Type), nil
	}
	if isCommandMark(string(s.Mark)) {
		return domain.Inbound{}, "reaction", nil
	}
	id, err := s.ID.key("id")
	if err != nil {
		return domain.Inbound{}, "", err
	}
	at, err := s.Timestamp.at()
	if err != nil {
		return domain.Inbound{}, "", err
	}
	peer := person(string(s.RecipientID), string(s.RecipientUs), "")
	if s.Status == "deleted" && peer.Address != "" && len(peer.Address) <= maxAddress {
		return domain.Inbound{Revoke: &domain.InboundRevoke{Peer: peer, TargetExternalID: id, ProviderTime: at}}, "", nil
	}
	word, known := statuses[s.Status]
	if !known { // "warning", "accepted" and what may come
		return domain.Inbound{}, string(s.Status), nil
	}
	out := &domain.InboundStatus{ExternalID: id, Status: word, At: at}
	out.MessageID, out.Attempt, _ = ParseMark(string(s.Mark))
	if word == domain.StatusFailed {
		out.Error = failure(metaErrors(s.Errors))
	}
	return domain.Inbound{Status: out}, "", nil
}

// failure is why a message was not delivered.
func failure(list []metaError) *domain.SendError {
	if len(list) == 0 {
		return &domain.SendError{
			Code: "provider_unknown", Message: "WhatsApp could not deliver the message and gave no reason. Try again later.",
		}
	}
	return &domain.SendError{Code: codeWord(list[0].Code), Message: list[0].undelivered()}
}
