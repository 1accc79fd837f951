/** Curves of one or several runs, live while they train, with samples next to them. */
import { follow, type RunEvent } from './api.js';
import { axisLook, color, figure } from './look.js';
import type { ViewProps } from './parts.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';
import uPlot from './vendor/uplot.js';

/** A run's events, in order of arrival. */
interface History {
  start?: RunEvent;
  last?: RunEvent;
  end?: RunEvent;
  /** The losses, keyed by optimiser steps done. */
  points: Map<number, Point>;
  samples: { epoch: number; steps: number; prompt: string; text: string }[];
}

interface Point {
  loss?: number | undefined;
  validation?: number | undefined;
  rate?: number | undefined;
  norm?: number | undefined;
  speed?: number | undefined;
}

export function Training({ models, fail }: ViewProps) {
  const runs = models.filter(({ run }) => run).map(({ name }) => name);
  const [shown, setShown] = useState<string[]>(runs.slice(0, 1));
  const histories = useRef(new Map<string, History>());
  const [version, setVersion] = useState(0);

  useEffect(() => {
    const controller = new AbortController();
    for (const run of shown) {
      const history: History = { points: new Map(), samples: [] };
      histories.current.set(run, history);
      (async () => {
        for await (const events of follow(run, controller.signal)) {
          for (const event of events) take(history, event);
          setVersion((before) => before + 1);
        }
      })().catch((error: unknown) => {
        if (!controller.signal.aborted) fail(error);
      });
    }
    return () => controller.abort();
  }, [shown.join('\n')]);

  if (runs.length === 0) {
    return html`<h1>Training</h1><p class="lead">None of the models that are served is a run's directory, so there is no history to show.</p>`;
  }
  const toggle = (run: string) =>
    setShown(shown.includes(run) ? shown.filter((each) => each !== run) : [...shown, run]);
  const all = shown.flatMap((run) => {
    const history = histories.current.get(run);
    return history ? [{ run, history, index: runs.indexOf(run) }] : [];
  });
  return html`<h1>Training</h1>
    ${
      runs.length > 1
        ? html`<div class="row" role="group" aria-label="Runs">${runs.map(
            (run) =>
              html`<label key=${run}><input type="checkbox" checked=${shown.includes(run)} onChange=${() => toggle(run)} /> ${run}</label>`,
          )}</div>`
        : null
    }
    ${all.map(({ run, history }) => html`<${Tiles} key=${run} run=${run} history=${history} />`)}
    <div class="beside">
      <${Chart} wide title="Loss, nats per character" runs=${all} version=${version} fields=${['loss', 'validation']} names=${['training', 'validation']} />
      <section class="samples" aria-label="Samples"><div tabindex="0" role="group" aria-label="Samples, the newest first"><h2>Samples</h2>
        ${samplesOf(all).map(
          ({ run, epoch, prompt, text }) =>
            html`<article key=${`${run} ${epoch}`}><small>${all.length > 1 ? `${run}, ` : ''}epoch ${epoch}</small><pre>${prompt}${text}</pre></article>`,
        )}
        ${all.filter(({ history }) => history.samples.length === 0).map(({ run }) => html`<p class="lead" key=${run}>${`${run} has written none yet.`}</p>`)}
      </div></section>
    </div>
    <div class="charts">
      <${Chart} title="Learning rate" runs=${all} version=${version} fields=${['rate']} />
      <${Chart} title="Gradient norm" runs=${all} version=${version} fields=${['norm']} />
      <${Chart} title="Characters a second" runs=${all} version=${version} fields=${['speed']} />
    </div>`;
}

/** The samples of all runs, latest epochs first. */
function samplesOf(all: { run: string; history: History }[]): (History['samples'][number] & { run: string })[] {
  return all
    .flatMap(({ run, history }) => history.samples.map((sample) => ({ ...sample, run })))
    .sort((a, b) => b.epoch - a.epoch);
}

/** Applies an event. A run resumed from an earlier step discards what came after that step. */
function take(history: History, event: RunEvent): void {
  const at = event.totalSteps ?? 0;
  const add = (point: Point) => history.points.set(at, { ...history.points.get(at), ...point });
  switch (event.type) {
    case 'start':
      history.start = event;
      delete history.end;
      for (const step of history.points.keys()) if (step > (event.resumed?.step ?? 0)) history.points.delete(step);
      history.samples = history.samples.filter(({ epoch }) => epoch <= (event.resumed?.epoch ?? 0));
      break;
    case 'step':
      history.last = event;
      add({ loss: event.loss, rate: event.learningRate, norm: event.gradientNorm, speed: event.charactersPerSecond });
      break;
    case 'epoch':
      history.last = event;
      add({
        loss: event.loss,
        validation: event.validationLoss,
        rate: event.learningRate,
        norm: event.gradientNorm,
        speed: event.charactersPerSecond,
      });
      break;
    case 'validation':
      add({ validation: event.validationLoss });
      break;
    case 'sample':
      history.samples.push({
        epoch: event.epoch ?? 0,
        steps: history.last?.totalSteps ?? 0,
        prompt: event.prompt ?? '',
        text: event.text ?? '',
      });
      break;
    case 'end':
      history.end = event;
      break;
    case 'checkpoint':
      break;
  }
}

function Tiles({ run, history }: { run: string; history: History }) {
  const { start, last, end } = history;
  const validations = [...history.points.values()].flatMap(({ validation }) => validation ?? []);
  const best = validations.length > 0 ? Math.min(...validations) : undefined;
  const loss = last?.type === 'step' ? last.epochLoss : last?.loss;
  const rows: [name: string, value: string, small: string][] = [
    [
      'Run',
      run,
      start?.corpus
        ? `${start.corpus.sources.join(', ')}: ${start.corpus.characters.toLocaleString('en')} characters`
        : '',
    ],
    ['Epoch', last ? `${last.epoch} of ${last.epochs}` : '–', `${(last?.totalSteps ?? 0).toLocaleString('en')} steps`],
    ['Loss', loss?.toFixed(4) ?? '–', loss === undefined ? '' : `${(loss / Math.LN2).toFixed(3)} bits per character`],
    [
      'Best validation',
      best?.toFixed(4) ?? '–',
      best === undefined ? '' : `${(best / Math.LN2).toFixed(3)} bits per character`,
    ],
    [
      'Speed',
      last?.charactersPerSecond ? Math.round(last.charactersPerSecond).toLocaleString('en') : '–',
      'characters per second',
    ],
    end
      ? [
          'State',
          {
            finished: 'finished',
            'early-stopping': 'stopped early',
            'schedule-time': 'time is up',
            'max-time': 'time is up',
            aborted: 'stopped',
          }[end.reason ?? ''] ?? 'ended',
          '',
        ]
      : ['Left', last?.etaSeconds === undefined ? '–' : duration(last.etaSeconds), 'at this speed'],
  ];
  return html`<dl class="tiles">${rows.map(([name, value, small]) => html`<div class="tile" key=${name}><dt>${name}</dt><dd>${value}<small>${small}</small></dd></div>`)}</dl>`;
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function Chart(props: {
  title: string;
  runs: { run: string; history: History; index: number }[];
  version: number;
  fields: (keyof Point)[];
  names?: string[];
  wide?: boolean;
}) {
  const { title, runs, version, fields, names = [], wide = false } = props;
  const place = useRef<HTMLDivElement | null>(null);
  const chart = useRef<uPlot | null>(null);
  const lines = runs.flatMap(({ run, history, index }) =>
    fields.map((field, part) => ({ run, history, index, field, part })),
  );
  const key = lines.map(({ run, field }) => `${run} ${field}`).join('\n');

  useEffect(() => {
    const target = place.current as HTMLDivElement;
    const draw = () => {
      chart.current?.destroy();
      chart.current = new uPlot(
        {
          width: target.clientWidth,
          height: wide ? 340 : 170,
          scales: { x: { time: false } },
          legend: { show: false },
          cursor: { y: false },
          axes: [
            {
              ...axisLook(),
              label: 'step',
              labelSize: 18,
              labelFont: '12px system-ui, sans-serif',
              size: 26,
              incrs: whole,
            },
            { ...axisLook(), size: 62 },
          ],
          series: [
            {},
            ...lines.map(({ index, part }) => ({
              stroke: lineColor(runs.length > 1 ? index : part),
              width: part === 0 ? 1.5 : 2.5,
              ...(part === 1 && runs.length > 1 ? { dash: [7, 5] } : {}),
              spanGaps: true,
              points: { show: part === 1 },
            })),
          ],
        },
        dataOf(lines),
        target,
      );
    };
    draw();
    const resize = new ResizeObserver(() =>
      chart.current?.setSize({ width: target.clientWidth, height: wide ? 340 : 170 }),
    );
    resize.observe(target);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', draw);
    return () => {
      resize.disconnect();
      dark.removeEventListener('change', draw);
      chart.current?.destroy();
      chart.current = null;
    };
  }, [key]);
  useEffect(() => chart.current?.setData(dataOf(lines)), [version, key]);

  const newest = (history: History, field: keyof Point) =>
    [...history.points.values()].reverse().find((point) => point[field] !== undefined)?.[field];
  const described = lines.map(({ run, history, field, part }) => {
    const value = newest(history, field);
    return `${runs.length > 1 ? `${run} ` : ''}${names[part] ?? ''} ${value === undefined ? 'none yet' : figure(value)}`.trim();
  });
  return html`<figure class=${wide ? 'wide' : ''}>
    <figcaption><b>${title}</b>${lines.map(
      ({ run, index, part }, i) =>
        html`<span key=${`${run} ${part}`}><span class=${`swatch k${(runs.length > 1 ? index : part) % 5}${part === 1 && runs.length > 1 ? ' dashed' : ''}`}></span>${described[i]}</span>`,
    )}</figcaption>
    <div ref=${place} role="img" aria-label=${`${title} by step: ${described.join(', ')}`}></div>
  </figure>`;
}

/** All lines over the union of their steps; null where one has no value. */
function dataOf(lines: { history: History; field: keyof Point }[]): uPlot.AlignedData {
  const steps = [...new Set(lines.flatMap(({ history }) => [...history.points.keys()]))].sort((a, b) => a - b);
  return [steps, ...lines.map(({ history, field }) => steps.map((step) => history.points.get(step)?.[field] ?? null))];
}

/** The colour of a run: k0 to k4 of page.css. */
function lineColor(index: number): string {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const colors = [
    color('--ours'),
    color('--reference'),
    ...(dark ? ['#5ed39b', '#be95ff'] : ['#137a4b', '#8a3ffc']),
    color('--wrong'),
  ];
  return colors[index % 5] as string;
}

/** Tick distances for an axis that counts. */
const whole = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();
