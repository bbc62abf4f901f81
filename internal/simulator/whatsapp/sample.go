package whatsapp

import "switchboard/internal/simulator/console"

// sample makes a file of the kind, for a message without one. Pictures differ from each other.
func sample(kind string) (mimeType, name string, data []byte) {
	switch kind {
	case TypeImage, TypeViewOnce:
		return "image/jpeg", "", console.SamplePhoto()
	case TypeVideo:
		return "video/mp4", "clip.mp4", console.SampleVideo()
	case TypeVoice:
		return "audio/ogg; codecs=opus", "", console.SampleVoice()
	case TypeAudio:
		return "audio/wav", "two-tones.wav", console.SampleAudio()
	case TypeSticker:
		return "image/webp", "", console.SampleSticker()
	default:
		name, data = console.SampleDocument()
		return "text/plain", name, data
	}
}
