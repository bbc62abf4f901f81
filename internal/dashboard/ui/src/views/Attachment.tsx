import { useEffect, useRef, useState } from "preact/hooks";

import { reason } from "../api";
import type { Location, Media, Message } from "../contract";
import { useWorkspace } from "../context";
import { bytes, kindName } from "../text/names";
import { Dialog, Spinner } from "./basics";
import { Icon } from "./icons";

/** The path of a signed link: the page reads from its own origin only, whatever name the server knows itself by. */
function ownPath(url: string): string {
  if (!url || url.startsWith("blob:")) return url;
  const parsed = new URL(url, location.origin);
  return parsed.pathname + parsed.search;
}

/** A link to a file; a fresh one when there is none, and once more when it does not work any longer. */
function useLink(media: Media) {
  const workspace = useWorkspace();
  const [fresh, setFresh] = useState("");
  const [error, setError] = useState("");
  const asked = useRef(false);
  const ask = () => {
    if (asked.current) return setError("The file cannot be shown here.");
    asked.current = true;
    workspace.mediaLink(media).then(setFresh, (e) => setError(reason(e)));
  };
  useEffect(() => {
    if (media.state === "ready" && !media.url) ask();
  }, [media.id, media.state]);
  return { url: ownPath(fresh || media.url), error, onError: ask };
}

export function Attachment({ message, media }: { message: Message; media: Media }) {
  if (media.state === "pending")
    return (
      <div class="file-note">
        <Spinner label="Fetching the file" /> {kindName(message.type)} is being fetched…
      </div>
    );
  if (media.state === "failed")
    return (
      <div class="file-note file-bad">
        <Icon name="warning" size={18} />
        <span>
          {kindName(message.type)} could not be fetched{media.error ? `: ${media.error}` : "."}
        </span>
      </div>
    );
  return <Ready message={message} media={media} />;
}

function Ready({ message, media }: { message: Message; media: Media }) {
  const { url, error, onError } = useLink(media);
  const [large, setLarge] = useState(false);
  const label = media.filename || kindName(message.type);
  if (error && message.type !== "document")
    return <FileCard media={media} url={url} label={label} note={error} />;
  switch (message.type) {
    case "image":
    case "sticker":
      return (
        <>
          <button type="button" class={`picture ${message.type}`} style={boxOf(media, message.type)} onClick={() => setLarge(true)} aria-label={`Open ${label}`}>
            {url && <img src={url} alt={message.content || label} loading="lazy" onError={onError} />}
          </button>
          {large && (
            <Dialog title={label} onClose={() => setLarge(false)} wide>
              <img class="picture-large" src={url} alt={message.content || label} />
              <footer>
                <a class="button" href={url} download={media.filename || ""}>
                  <Icon name="download" size={18} /> Download
                </a>
              </footer>
            </Dialog>
          )}
        </>
      );
    case "video":
      return <video class="picture" style={boxOf(media, "video")} src={url || undefined} controls preload="metadata" playsInline aria-label={label} onError={() => url && onError()} />;
    case "audio":
    case "voice":
      return <audio class="audio" src={url || undefined} controls preload="metadata" aria-label={label} onError={() => url && onError()} />;
    default:
      return <FileCard media={media} url={url} label={label} note={error} />;
  }
}

// The place is kept before the picture is there, so that the conversation does not jump.
function boxOf(media: Media, type: "image" | "sticker" | "video"): Record<string, string> | undefined {
  if (type === "sticker" || !media.width || !media.height) return undefined;
  const scale = Math.min(1, 320 / media.width, 340 / media.height);
  return { width: `${Math.round(media.width * scale)}px`, aspectRatio: `${media.width} / ${media.height}` };
}

function FileCard({ media, url, label, note }: { media: Media; url: string; label: string; note: string }) {
  return (
    <a class="file-card" href={url || undefined} download={media.filename || ""}>
      <Icon name="file" size={26} />
      <span>
        <strong>{label}</strong>
        <small>{note || [media.size > 0 && bytes(media.size), media.mime].filter(Boolean).join(" · ")}</small>
      </span>
      <Icon name="download" size={18} />
    </a>
  );
}

/** A place, without a map: showing one would tell a map's server where the customer is. */
export function Place({ place }: { place: Location }) {
  const coordinates = `${place.latitude.toFixed(5)}, ${place.longitude.toFixed(5)}`;
  return (
    <div class="place">
      <span class="place-pin">
        <Icon name="pin" size={24} />
      </span>
      <span>
        {place.name && <strong>{place.name}</strong>}
        {place.address && <span>{place.address}</span>}
        <a href={`https://www.openstreetmap.org/?mlat=${place.latitude}&mlon=${place.longitude}#map=17/${place.latitude}/${place.longitude}`} target="_blank" rel="noopener noreferrer" title="Opens a map in a new tab">
          {coordinates}
        </a>
      </span>
    </div>
  );
}
