package store

// mergeSeen brings together what is kept of two rows that are one message. files
// are those that are not kept any more, perhaps.
func (tx *Tx) mergeSeen(kept, gone doubleRow) (files []*int64, err error) {
	for _, of := range []part{partMessage, partReaction} {
		var all [2]seen
		var waits [2]bool
		for i, row := range []doubleRow{kept, gone} {
			if all[i], waits[i], err = tx.seenOf(row.Row.ID, of); err == nil && !waits[i] {
				all[i], err = tx.present(row.Row.ID, of)
			}
			if err != nil {
				return files, err
			}
		}
		if !waits[0] && !waits[1] {
			continue
		}
		files = append(files, all[0].MediaID, all[1].MediaID)
		if of == partMessage && (kept.takenBack(waits[0]) || gone.takenBack(waits[1])) {
			for _, row := range []doubleRow{kept, gone} {
				if err := tx.forget(row.Row.ID); err != nil {
					return files, err
				}
			}
			continue
		}
		if err := tx.putSeen(kept.Row.ID, of, latest(all, waits, of == partMessage && kept.Placeholder, of == partMessage && gone.Placeholder)); err != nil {
			return files, err
		}
	}
	return files, nil
}

// takenBack reports whether a message is gone from the customer's phone, and not
// by a change that still waits.
func (r doubleRow) takenBack(waits bool) bool { return r.Row.RevokedAt != nil && !waits }

// latest is what the customer sees by the later word of two rows, of those that
// could be read. With none later it is by the row of which something waits.
func latest(all [2]seen, waits [2]bool, first, second bool) seen {
	switch {
	case first != second:
		if first {
			return all[1]
		}
		return all[0]
	case all[1].newer(all[0]) || !all[0].newer(all[1]) && !waits[0]:
		return all[1]
	default:
		return all[0]
	}
}
