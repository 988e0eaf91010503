/** Starts the page: colours first, then the engine, then everything that needs it. Rejects if the engine cannot be started. */
import './components.ts';
import { startEngine } from './engine.ts';
import { keepFocus } from './focus.ts';
import { Messages } from './messages.ts';
import { Page } from './page.ts';
import { startTheme } from './theme.ts';

/** Puts the page where index.html has its first line. */
export async function start(): Promise<void> {
  startTheme();
  keepFocus();
  const page = new Page(await startEngine(), new Messages());
  document.getElementById('loading')?.remove();
  await page.start();
}
