// Charts, drawn as SVG for the width that they have: their colours are the page's tokens, so both themes and forced colours come
// by themselves, and each has its table below. Values here place pixels; the figures that are read come as text.

import { useEffect, useRef, useState } from 'preact/hooks';
import { go } from '../route.js';
import { between, labelEvery, logTicks, path, scale, stacked, ticks } from './geometry.js';

/** The width of an element, and again when it changes. */
export function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!ref.current) return undefined;
    const watch = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    watch.observe(ref.current);
    setWidth(Math.round(ref.current.getBoundingClientRect().width));
    return () => watch.disconnect();
  }, []);
  return [ref, width];
}

/** Patterns that charts fill with; once a page. */
export function Patterns() {
  return (
    <svg width="0" height="0" aria-hidden="true" class="sr">
      <defs>
        <pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="4" height="4" fill="var(--heldt)" />
          <rect width="1.5" height="4" fill="var(--held)" />
        </pattern>
      </defs>
    </svg>
  );
}

function Axis({ marks, y, left, right, name }) {
  return marks.map((mark) => (
    <g key={mark}>
      <line class={mark === 0 ? 'base' : 'grid'} x1={left} x2={right} y1={y(mark)} y2={y(mark)} />
      <text x="0" y={y(mark) + 4}>
        {name(mark)}
      </text>
    </g>
  ));
}

/**
 * Buckets of time, stacked. `buckets`: `{at, label, values, before, held, over, rest, href}`; `values` in the order of
 * `series` (`s1` … `rest`). As bars where there are at most 60 calendar units, else as areas. `reading(index)` is what stands
 * beside the bucket that is looked at.
 */
export function Stack({
  buckets,
  series,
  height = 352,
  name,
  reading,
  dimmed,
  label,
  compare,
  areas = false,
  log = false,
  empty,
}) {
  const [ref, width] = useWidth();
  const [at, setAt] = useState(-1);
  // A finger reads; it does not mean to leave.
  const touched = useRef(false);
  const left = 42;
  const top = 16;
  const bottom = height - 24;
  const inner = Math.max(1, width - left);
  const wide = inner / Math.max(1, buckets.length);
  const heightOf = (bucket) =>
    Math.max(bucket.values.reduce((sum, value) => sum + value, 0) + (bucket.held || 0) + (bucket.rest || 0), bucket.before || 0);
  const highest = Math.max(0, ...buckets.map(heightOf));
  const marks = log && highest > 0 ? logTicks(highest) : ticks(highest);
  const share = scale(marks[marks.length - 1], log && highest > 0);
  const y = (value) => bottom - share(value) * (bottom - top);
  const every = labelEvery(buckets.length, inner);
  const nothing = buckets.every((bucket) => heightOf(bucket) === 0);

  const look = (event) => {
    const x = event.clientX - ref.current.getBoundingClientRect().left - left;
    setAt(x < 0 ? -1 : Math.min(buckets.length - 1, Math.floor(x / wide)));
  };
  const press = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      event.stopPropagation();
      setAt((before) => Math.max(0, Math.min(buckets.length - 1, before < 0 ? buckets.length - 1 : before + step)));
    } else if (event.key === 'Enter' && buckets[at] && buckets[at].href) go(buckets[at].href);
    else if (event.key === 'Escape') setAt(-1);
  };
  const chosen = buckets[at];
  const side = chosen && left + (at + 1) * wide + 250 > width ? left + at * wide - 244 : left + (at + 1) * wide + 8;
  return (
    <div
      class="chart"
      ref={ref}
      tabIndex={0}
      role="group"
      aria-roledescription="chart"
      aria-label={`${label}. Arrow keys read it bucket by bucket; the table below has its sums.`}
      onPointerMove={look}
      onPointerLeave={() => !touched.current && setAt(-1)}
      onKeyDown={press}
      onPointerDown={(event) => {
        touched.current = event.pointerType !== 'mouse';
        look(event);
      }}
      onClick={() => !touched.current && chosen && chosen.href && go(chosen.href)}>
      {width > 0 && (
        <svg height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
          {chosen && <rect x={left + at * wide} y={0} width={wide} height={bottom} fill="var(--sunk)" />}
          <Axis marks={marks} y={y} left={left} right={width} name={name} />
          {areas ? (
            <Areas {...{ buckets, series, left, wide, y, dimmed }} />
          ) : (
            buckets.map((bucket, i) => <Bar key={bucket.at} {...{ bucket, series, y, dimmed, x: left + i * wide, wide }} />)
          )}
          {compare && <Before {...{ buckets, left, wide, y, areas }} />}
          {buckets.map(
            (bucket, i) =>
              i % every === 0 && (
                <text
                  key={bucket.at}
                  x={left + (i + 0.5) * wide}
                  y={height - 4}
                  text-anchor={i === 0 && wide < 40 ? 'start' : 'middle'}>
                  {bucket.label}
                </text>
              ),
          )}
          {nothing && (
            <text class="soft" x={left + inner / 2} y={(top + bottom) / 2} text-anchor="middle">
              {empty || 'Nothing was spent in this period.'}
            </text>
          )}
        </svg>
      )}
      {chosen && (
        <div class="reading" style={{ left: `${Math.max(0, Math.min(width - 236, side))}px`, top: '0px' }} role="status">
          {reading(at)}
        </div>
      )}
    </div>
  );
}

function Bar({ bucket, series, x, wide, y, dimmed }) {
  const gap = Math.min(10, Math.max(1, wide * 0.26));
  const box = { x: x + gap / 2, width: Math.max(1, wide - gap) };
  const all = stacked(bucket.values);
  const sum = all.length ? all[all.length - 1][1] : 0;
  const line = wide > 6 ? 1 : 0;
  const rect = (from, to, more) =>
    to > from && <rect {...box} y={y(to)} height={Math.max(0.5, y(from) - y(to) - line)} {...more} />;
  return (
    <g>
      {all.map(([from, to], i) => (
        <g key={i}>{rect(from, to, { class: `${series[i]}f${dimmed && !dimmed(i) ? ' dimf' : ''}` })}</g>
      ))}
      {bucket.held > 0 && (
        <rect
          {...box}
          y={y(sum + bucket.held) - (y(sum) - y(sum + bucket.held) < 3 ? 3 : 0)}
          height={Math.max(3, y(sum) - y(sum + bucket.held))}
          class="heldf"
        />
      )}
      {bucket.over > 0 && <rect {...box} y={y(sum) - 4} height="4" class="overf" />}
      {bucket.rest > 0 && (
        <rect
          {...box}
          y={y(sum + bucket.rest)}
          height={Math.max(0, y(sum + (bucket.held || 0)) - y(sum + bucket.rest) - 2)}
          class="dash"
        />
      )}
    </g>
  );
}

function Areas({ buckets, series, left, wide, y, dimmed }) {
  const x = (i) => left + (i + 0.5) * wide;
  const all = buckets.map((bucket) => stacked(bucket.values));
  const some = all.filter((one) => one.length && one[one.length - 1][1] > 0);
  // A single point has no area: a dot, whose figure the table has.
  if (some.length === 1) {
    const i = all.indexOf(some[0]);
    return <circle cx={x(i)} cy={y(some[0][some[0].length - 1][1])} r="3" fill="var(--spent)" />;
  }
  return series.map((name, s) => (
    <path
      key={name}
      class={`${name}f${dimmed && !dimmed(s) ? ' dimf' : ''}`}
      d={between(
        all.map((one, i) => [x(i), y(one[s] ? one[s][1] : 0)]),
        all.map((one, i) => [x(i), y(one[s] ? one[s][0] : 0)]),
      )}
    />
  ));
}

/** The period before: one ink line a bucket, ringed by the ground. */
function Before({ buckets, left, wide, y, areas }) {
  if (areas)
    return (
      <path
        class="was"
        fill="none"
        d={path(buckets.map((bucket, i) => (bucket.before === null ? null : [left + (i + 0.5) * wide, y(bucket.before)])))}
      />
    );
  const gap = Math.max(0, wide * 0.04);
  return buckets.map(
    (bucket, i) =>
      bucket.before > 0 && (
        <g key={bucket.at}>
          <line
            class="ringed"
            x1={left + i * wide + gap}
            x2={left + (i + 1) * wide - gap}
            y1={y(bucket.before)}
            y2={y(bucket.before)}
          />
          <line
            class="was"
            x1={left + i * wide + gap}
            x2={left + (i + 1) * wide - gap}
            y1={y(bucket.before)}
            y2={y(bucket.before)}
          />
        </g>
      ),
  );
}

/**
 * What was spent up to now against a limit, and where it goes. `points`: `[share of the period, value]`; `ahead`: `[share, low,
 * middle, high]`; `lines`: `{value, label, kind: 'limit' | 'soft'}`.
 */
export function Toward({ points, ahead, lines, labels, name, height = 256, label, nowLabel, endLabel }) {
  const [ref, width] = useWidth();
  const narrow = width < 520;
  const left = 38;
  const right = Math.max(left + 10, width - (narrow ? 6 : 108));
  const top = 12;
  const bottom = height - 26;
  const most = Math.max(
    1e-9,
    ...points.map(([, value]) => value),
    ...ahead.map((one) => one[3]),
    ...lines.map((line) => line.value),
  );
  const marks = ticks(most);
  const high = Math.max(marks[marks.length - 1], most);
  const x = (share) => left + share * (right - left);
  const y = (value) => bottom - (value / high) * (bottom - top);
  const last = points[points.length - 1];
  const end = ahead[ahead.length - 1];
  const apart = spread(lines.map((line) => y(line.value)).concat(end && !narrow ? [y(end[2])] : []), 17);
  return (
    <div class="chart" ref={ref} role="img" aria-label={label}>
      {width > 0 && (
        <svg height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
          <Axis marks={marks} y={y} left={left} right={right} name={name} />
          {labels
            .filter(([share], i) => i === 0 || x(share) - x(labels[0][0]) > 52)
            .map(([share, text]) => (
              <text key={text} x={x(share)} y={height - 6} text-anchor={share === 0 ? 'start' : 'middle'}>
                {text}
              </text>
            ))}
          <Lines {...{ points, ahead, x, y, bottom }} />
          {lines.map((line, i) => (
            <g key={line.label}>
              <line
                x1={left}
                x2={right}
                y1={y(line.value)}
                y2={y(line.value)}
                stroke={line.kind === 'limit' ? 'var(--ink)' : 'var(--edge)'}
                stroke-width={line.kind === 'limit' ? 1.5 : 1}
                stroke-dasharray={line.kind === 'limit' ? undefined : '4 3'}
              />
              <text
                class={line.kind === 'limit' ? 'ink' : 'soft'}
                x={narrow ? left + 6 : right + 10}
                y={narrow ? y(line.value) + 14 : apart[i] + 4}>
                {line.label}
              </text>
            </g>
          ))}
          <Ends {...{ last, end, x, y, right, bottom, narrow, nowLabel, endLabel, endAt: apart[lines.length] }} />
        </svg>
      )}
    </div>
  );
}

/** What was spent, and the band in which it may go on. */
function Lines({ points, ahead, x, y, bottom }) {
  const upper = ahead.map(([share, , , value]) => [x(share), y(value)]);
  const lower = ahead.map(([share, value]) => [x(share), y(value)]);
  return (
    <>
      {points.length > 1 && (
        <path
          d={between(
            points.map(([share, value]) => [x(share), y(value)]),
            points.map(([share]) => [x(share), bottom]),
          )}
          fill="var(--spent-area)"
        />
      )}
      {ahead.length > 1 && <path d={between(upper, lower)} fill="var(--pressed)" />}
      {ahead.length > 1 && (
        <path
          d={path(ahead.map(([share, , value]) => [x(share), y(value)]))}
          fill="none"
          stroke="var(--ink2)"
          stroke-width="1.5"
          stroke-dasharray="2 3"
        />
      )}
      {points.length > 1 && (
        <path
          d={path(points.map(([share, value]) => [x(share), y(value)]))}
          fill="none"
          stroke="var(--spent)"
          stroke-width="2"
          stroke-linejoin="round"
        />
      )}
    </>
  );
}

/** Where it stands now, and where it ends. */
function Ends({ last, end, x, y, right, bottom, narrow, nowLabel, endLabel, endAt }) {
  return (
    <>
      {end && endLabel && (
        <text
          class="ink"
          x={narrow ? right : right + 10}
          y={narrow ? y(end[1]) + 24 : endAt + 4}
          text-anchor={narrow ? 'end' : 'start'}>
          {endLabel}
        </text>
      )}
      {last && <circle cx={x(last[0])} cy={y(last[1])} r="5" fill="var(--spent)" stroke="var(--bg)" stroke-width="2" />}
      {last && nowLabel && !narrow && (
        <text
          class="soft"
          x={x(last[0]) > right - 80 ? x(last[0]) - 8 : x(last[0]) + 10}
          y={Math.min(bottom - 6, y(last[1]) + (x(last[0]) > right - 80 ? 34 : 18))}
          text-anchor={x(last[0]) > right - 80 ? 'end' : 'start'}>
          {nowLabel}
        </text>
      )}
    </>
  );
}

/** Labels pushed apart, so that none covers another; in their order from above. */
function spread(places, least) {
  const order = places.map((at, i) => [at, i]).sort((a, b) => a[0] - b[0]);
  const found = [];
  let before = -Infinity;
  for (const [at, i] of order) {
    before = Math.max(at, before + least);
    found[i] = before;
  }
  return found;
}

/** Minutes of the last hour, side by side. */
export function Spark({ values, label, height = 16 }) {
  const most = Math.max(1e-12, ...values);
  return (
    <svg class="spark" width={values.length * 3} height={height} role="img" aria-label={label}>
      {values.map((value, i) => (
        <rect
          key={i}
          x={i * 3}
          width="2"
          y={height - Math.max(1, (value / most) * height)}
          height={Math.max(1, (value / most) * height)}
        />
      ))}
    </svg>
  );
}
