import assert from "node:assert/strict";
import { it } from "node:test";

import { clock, dayName, daysAgo, distance, duration, short } from "../src/text/time";

// Local times: what the reader's calendar says is what counts.
const time = (year: number, month: number, day: number, hour = 0, minute = 0) => new Date(year, month, day, hour, minute).toISOString();
const now = new Date(2026, 4, 20, 0, 30);

it("counts days by the calendar, not by hours", () => {
  assert.equal(daysAgo(new Date(2026, 4, 19, 23, 59), now), 1);
  assert.equal(daysAgo(new Date(2026, 4, 20, 0, 1), now), 0);
  assert.equal(daysAgo(new Date(2026, 2, 28, 12), new Date(2026, 2, 30, 12)), 2); // over a change to summer time
});

it("short", () => {
  assert.equal(short(time(2026, 4, 20, 0, 5), now, "en-GB"), "00:05");
  assert.equal(short(time(2026, 4, 19, 23), now, "en-GB"), "Yesterday");
  assert.equal(short(time(2026, 4, 16, 9), now, "en-GB"), "Sat");
  assert.equal(short(time(2026, 1, 3), now, "en-GB"), "3 Feb");
  assert.equal(short(time(2024, 1, 3), now, "en-GB"), "3 Feb 2024");
  assert.equal(short(time(2026, 4, 19, 23), now, "de"), "Gestern");
});

it("days, clocks, distances, durations", () => {
  assert.equal(dayName(time(2026, 4, 20, 0, 5), now, "en-GB"), "Today");
  assert.match(dayName(time(2026, 4, 4, 9), now, "en-GB"), /^Monday,? 4 May$/);
  assert.equal(clock(time(2026, 4, 4, 14, 5), "en-GB"), "14:05");
  assert.equal(distance(time(2026, 4, 20, 0, 29), now, "en-GB"), "1 minute ago");
  assert.equal(distance(time(2026, 4, 20, 3, 30), now, "en-GB"), "In 3 hours");
  assert.equal(distance(time(2026, 4, 18, 0, 30), now, "en-GB"), "2 days ago");
  assert.equal(duration(65_400), "1:05");
});
