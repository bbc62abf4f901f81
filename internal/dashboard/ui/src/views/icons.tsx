import type { ChannelKind, Network } from "../contract";

// Drawn on a grid of 24, with the text's colour. Decorative: what they mean is said in words beside them or in a label.

const paths = {
  inbox: "M4 13h4l1.5 3h5L16 13h4M4 13V7a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2z",
  ticket: "M4 8a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v2a2 2 0 0 0 0 4v2a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2v-2a2 2 0 0 0 0-4zM14 6v2m0 3v2m0 3v2",
  channels: "M6.5 17.5a8 8 0 0 1 0-11M17.5 6.5a8 8 0 0 1 0 11M9.3 14.7a4 4 0 0 1 0-5.4M14.7 9.3a4 4 0 0 1 0 5.4M12 12h.01",
  team: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M3 20c0-3.3 2.7-6 6-6s6 2.7 6 6M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14.6c1.8.9 3 2.8 3 5.4",
  key: "M8 18a4 4 0 1 0 0-8 4 4 0 0 0 0 8M11 11l8-8M16 6l2.5 2.5M13.5 8.5 15 10",
  bell: "M6 9a6 6 0 1 1 12 0c0 5 2 6 2 7H4c0-1 2-2 2-7M10 20a2 2 0 0 0 4 0",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M16 16l4.5 4.5",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  back: "M15 5l-7 7 7 7",
  down: "M6 9l6 6 6-6",
  send: "M5 12 3.5 4.5 21 12 3.5 19.5zM5 12h8",
  attach: "M20 11.5 12 19.4a5 5 0 0 1-7-7L13.4 4a3.3 3.3 0 0 1 4.7 4.7L9.7 17a1.7 1.7 0 0 1-2.4-2.4L15 7",
  smile: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M8.5 14.5c1.8 2.3 5.2 2.3 7 0M9 9.5h.01M15 9.5h.01",
  reply: "M9 7 4 12l5 5M4 12h9a7 7 0 0 1 7 7",
  more: "M12 6h.01M12 12h.01M12 18h.01",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  undo: "M7 8H15a5 5 0 0 1 0 10h-4M7 8l4-4M7 8l4 4",
  copy: "M9 9h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H9a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1M5 15V5a1 1 0 0 1 1-1h9",
  check: "M5 12.5 10 17 19 7",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 7v5l3 2",
  warning: "M12 4 2.8 20h18.4zM12 10v4M12 17h.01",
  question: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.6.3-1 .8-1 1.7M12 16.5h.01",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  pin: "M12 21s7-6.2 7-11.5A7 7 0 0 0 5 9.5C5 14.8 12 21 12 21M12 12a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5",
  file: "M7 3h7l5 5v12a1 1 0 0 1-1 1H7a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1M14 3v5h5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4 21c0-4 3.6-7 8-7s8 3 8 7",
  panel: "M4 5h16v14H4zM15 5v14",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M18.4 5.6 17 7M7 17l-1.4 1.4",
  moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5",
  auto: "M12 21a9 9 0 1 0 0-18zM12 21a9 9 0 0 1 0-18",
  out: "M14 5H6v14h8M10 12h11M17 8l4 4-4 4",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  template: "M5 4h14v16H5zM8 8h8M8 12h8M8 16h4",
  link: "M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.300l-1 1M14 10a4 4 0 0 0-5.700 0l-3 3A4 4 0 0 0 11 18.700l1-1",
  code: "M8 8l-4 4 4 4M16 8l4 4-4 4M13 6l-2 12",
  bolt: "M13 3 5 14h6l-1 7 8-11h-6z",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, size = 20, class: extra = "" }: { name: IconName; size?: number; class?: string }) {
  return (
    <svg class={`icon ${extra}`} width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}

/** The mark of a network. */
export function NetworkIcon({ network, size = 14 }: { network: Network; size?: number }) {
  const label = network === "telegram" ? "Telegram" : "WhatsApp";
  return (
    <svg class={`network network-${network}`} width={size} height={size} viewBox="0 0 24 24" role="img" aria-label={label}>
      <circle cx="12" cy="12" r="12" />
      {network === "telegram" ? (
        <path d="M5.300 11.800 18 6.800c.7-.3 1.300.2 1.100 1l-2.100 9.700c-.2.8-.9 1-1.500.6l-3-2.200-1.500 1.500c-.3.3-.8.2-.8-.3l-.2-2.700 5-4.600-6.500 4-2.900-.9c-.8-.2-.8-.8-.3-1.100z" />
      ) : (
        <path d="M12 5a7 7 0 0 0-6 10.500L5 19l3.600-.9A7 7 0 1 0 12 5m-2.400 3.500c.3 0 .5 0 .7.500l.6 1.400c.1.2 0 .4-.1.500l-.5.7c.6 1 1.500 1.800 2.600 2.300l.8-.9c.2-.2.4-.2.6-.1l1.400.7c.3.1.4.3.4.5-.2 1.300-1.200 1.800-2.300 1.700-2.900-.5-5.300-2.900-5.700-5.400 0-1 .6-1.900 1.500-1.900" />
      )}
    </svg>
  );
}

export function networkOf(kind: ChannelKind): Network {
  return kind === "telegram" ? "telegram" : "whatsapp";
}

/** How far an outbound message has come. */
export function Ticks({ double }: { double: boolean }) {
  return (
    <svg class="icon" width={double ? 18 : 14} height="14" viewBox={double ? "0 0 26 20" : "0 0 20 20"} aria-hidden="true">
      <path d={double ? "M2 11l5 5L17 5M11 14.500l1.500 1.500L23 5" : "M3 11l5 5L18 5"} />
    </svg>
  );
}
