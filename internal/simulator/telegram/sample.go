package telegram

import "switchboard/internal/simulator/console"

// sample makes a file of the kind, for a customer's message without one. Photos differ from each other.
func sample(kind string) (mimeType, name string, data []byte) {
	switch kind {
	case "photo":
		return "image/jpeg", "", console.SamplePhoto()
	case "video", "animation", "video_note":
		return "video/mp4", kind + ".mp4", console.SampleVideo()
	case "voice":
		return "audio/ogg", "", console.SampleVoice()
	case "audio":
		return "audio/wav", "two-tones.wav", console.SampleAudio()
	case "sticker":
		return "image/webp", "", console.SampleSticker()
	default:
		name, data = console.SampleDocument()
		return "text/plain", name, data
	}
}
