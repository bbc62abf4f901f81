package realtime

import (
	"math"

	"switchboard/internal/domain"
)

// maxInteger is the largest whole number that a JavaScript client can say exactly; beyond, what arrives may not be what
// was meant.
const maxInteger = 1<<53 - 1

// whole reads a whole number in [least, maxInteger] out of decoded JSON.
func whole(value any, least int64) (int64, bool) {
	number, isNumber := value.(float64)
	if !isNumber || number != math.Trunc(number) || number < float64(least) || number > maxInteger {
		return 0, false // NaN is not equal to itself
	}
	return int64(number), true
}

// onlyObject returns the one argument of an event, which must be an object with no other fields than allowed.
func onlyObject(args []any, allowed ...string) (map[string]any, *domain.Error) {
	if len(args) == 0 {
		return nil, domain.Invalid(allowed[0], "This event needs an object with "+allowed[0]+".")
	}
	if len(args) > 1 {
		return nil, domain.Invalid("", "This event takes one object and nothing else.")
	}
	object, isObject := args[0].(map[string]any)
	if !isObject {
		return nil, domain.Invalid("", "This event takes an object with "+allowed[0]+".")
	}
	known := 0
	for _, field := range allowed {
		if _, present := object[field]; present {
			known++
		}
	}
	if known != len(object) {
		return nil, domain.Invalid("", "The object holds a field that this event does not know.")
	}
	return object, nil
}

// parseChat reads {chatId} of the chat events.
func parseChat(args []any) (int64, *domain.Error) {
	object, problem := onlyObject(args, "chatId")
	if problem != nil {
		return 0, problem
	}
	id, valid := whole(object["chatId"], 1)
	if !valid {
		return 0, domain.Invalid("chatId", "chatId must be a whole number above 0.")
	}
	return id, nil
}

// parseSync reads {after, epoch?} of the sync event.
func parseSync(args []any) (start, *domain.Error) {
	object, problem := onlyObject(args, "after", "epoch")
	if problem != nil {
		return start{}, problem
	}
	after, valid := whole(object["after"], 0)
	if !valid {
		return start{}, domain.Invalid("after", "after must be a whole number, 0 or above.")
	}
	from := start{seq: after}
	if epoch, present := object["epoch"]; present {
		if from.epoch, valid = epoch.(string); !valid {
			return start{}, domain.Invalid("epoch", "epoch must be the string that came with the last event.")
		}
	}
	return from, nil
}

// parseStart reads lastSeq and epoch of the handshake; none says that there is no lastSeq. What makes no sense is not
// refused, since the client could do nothing about it but refetch: that is what it is told.
func parseStart(auth map[string]any) (from start, given bool) {
	last, present := auth["lastSeq"]
	if !present || last == nil {
		return start{}, false
	}
	seq, valid := whole(last, 0)
	if !valid {
		return start{bad: true}, true
	}
	from.seq = seq
	if epoch, present := auth["epoch"]; present && epoch != nil {
		if from.epoch, valid = epoch.(string); !valid {
			return start{bad: true}, true
		}
	}
	return from, true
}
