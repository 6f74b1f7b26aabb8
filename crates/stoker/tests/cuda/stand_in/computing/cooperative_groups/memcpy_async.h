// Copies of a group are in `cuda/barrier`.
#pragma once
